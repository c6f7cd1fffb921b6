"""A gRPC client that knows nothing of the gateway: an address, a key, a certificate, and the root it verifies with.

Commands come as arguments (one, then it ends) or, without any, as lines of JSON on standard input, each a list of
words; all of them use one channel. Each command is answered with one line of JSON.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys

import grpc
import lab_pb2 as lab
import multipass_pb2 as multipass

ENDLESS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Client:
    """A channel, and the commands on it: each is a method and answers with a dictionary."""

    def __init__(self, given):
        self.given = given
        self.channels = [self.open()]
        self.open_chat = None

    def open(self):
        """A connection of its own, however many there are to this address."""
        given = self.given
        options = ENDLESS + (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
        if given.plain:
            return grpc.aio.insecure_channel(given.target, options=options)
        root, key, certificate = (path and open(path, "rb").read() for path in (given.root, given.key, given.cert))
        credentials = grpc.ssl_channel_credentials(root, key, certificate)
        options += (("grpc.default_authority", given.authority),)
        return grpc.aio.secure_channel(given.target, credentials, options=options)

    def method(self, path, request, reply, channel=None):
        """The four kinds of call of one path, by name."""
        channel = channel or self.channels[0]
        names = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        made = {
            name: getattr(channel, name)(
                path, request_serializer=request.SerializeToString, response_deserializer=reply.FromString
            )
            for name in names
        }
        return argparse.Namespace(**made)

    # Multipass's service.

    async def ping(self, options):
        call = self.method("/multipass.Rpc/ping", multipass.PingRequest, multipass.PingReply)
        call = call.unary_unary(multipass.PingRequest(), timeout=options.patience)
        return await outcome(call, lambda reply: {})

    async def authenticate(self, options):
        request = multipass.AuthenticateRequest(passphrase=options.passphrase, verbosity_level=3)
        return await self.multipass("authenticate", request, multipass.AuthenticateReply, options)

    async def get(self, options):
        return await self.multipass("get", multipass.GetRequest(key=options.key), multipass.GetReply, options)

    async def set(self, options):
        request = multipass.SetRequest(key=options.key, val=options.value)
        return await self.multipass("set", request, multipass.SetReply, options)

    async def version(self, options):
        return await self.multipass("version", multipass.PingRequest(), multipass.PingReply, options)

    async def multipass(self, name, request, reply, options):
        """One call in the shape of one generation of Multipass's clients."""
        method = self.method(f"/multipass.Rpc/{name}", type(request), reply)
        replies = []
        if options.shape == "old":
            # To 1.10: a single request, replies in a stream.
            call = method.unary_stream(request, timeout=options.patience)
            return await outcome(gather(call, replies), lambda _: {"replies": replies}, call)
        call = method.stream_stream(timeout=options.patience)

        async def talk():
            await call.write(request)
            # Since 1.11 the command line leaves its half of the stream open until the status has come.
            if options.shape == "gui":
                await call.done_writing()
            while (message := await call.read()) is not grpc.aio.EOF:
                replies.append(fields(message))
                if options.shape == "cli" and getattr(message, "needs_authorization", False):
                    request.authorized = True
                    await call.write(request)

        return await outcome(talk(), lambda _: {"replies": replies}, call)

    # The service of the tests.

    async def echo(self, options):
        method = self.method("/lab.Lab/Echo", lab.Note, lab.Seen)
        metadata = tuple(pair(text) for text in options.metadata)
        compression = grpc.Compression.Gzip if options.gzip else None
        note = lab.Note(text=options.text * options.times)
        call = method.unary_unary(note, metadata=metadata, timeout=options.patience, compression=compression)

        def facts(seen):
            shown = {"length": len(seen.text)} if options.times > 1 else {"text": seen.text}
            metadata = [[pair.name, readable(pair.name, pair.value)] for pair in seen.metadata]
            remaining = seen.remaining if seen.HasField("remaining") else None
            return {**shown, "seen": metadata, "remaining": remaining, "peer": seen.peer}

        return await outcome(call, facts)

    async def sum(self, options):
        call = self.method("/lab.Lab/Sum", lab.Number, lab.Number)
        numbers = (lab.Number(value=number) for number in options.numbers)
        return await outcome(call.stream_unary(numbers, timeout=options.patience), lambda sum: {"sum": sum.value})

    async def count(self, options):
        call = self.method("/lab.Lab/Count", lab.Number, lab.Number)
        call = call.unary_stream(lab.Number(value=options.number), timeout=options.patience)
        replies = []
        return await outcome(gather(call, replies), lambda _: {"count": [reply["value"] for reply in replies]}, call)

    async def chat(self, options):
        """One note after the other: each is sent when the one before has come back."""
        call = self.method("/lab.Lab/Chat", lab.Note, lab.Note).stream_stream(timeout=options.patience)
        heard = []

        async def talk():
            for text in options.notes:
                await call.write(lab.Note(text=text))
                heard.append((await call.read()).text)
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF

        return await outcome(talk(), lambda _: {"heard": heard}, call)

    async def many(self, options):
        """So many chats, none of which ends before all of them have been answered."""
        while len(self.channels) < options.connections:
            self.channels.append(self.open())
        channels = self.channels[: options.connections]
        calls = [
            self.method("/lab.Lab/Chat", lab.Note, lab.Note, channels[number % len(channels)]).stream_stream(
                timeout=options.patience
            )
            for number in range(options.number)
        ]
        most, answered, everyone_is_answered = 0, 0, asyncio.Event()

        async def talk(number, call):
            nonlocal answered, most
            for text in (f"first of {number}", f"second of {number}"):
                await call.write(lab.Note(text=text))
                reply = await call.read()
                assert reply.text == text, f"{reply.text} instead of {text}"
                most = max(most, reply.open)
                answered += 1
                if answered == options.number:
                    everyone_is_answered.set()
                await asyncio.wait_for(everyone_is_answered.wait(), options.patience)
            await call.done_writing()

        told = await asyncio.gather(
            *(outcome(talk(number, call), lambda _: {}, call) for number, call in enumerate(calls))
        )
        results = {}
        for one in told:
            results[one["code"]] = results.get(one["code"], 0) + 1
        return {"results": results, "most": most}

    async def big(self, options):
        """So many megabytes to the daemon and back in chunks, both directions at once."""
        call = self.method("/lab.Lab/Big", lab.Chunk, lab.Chunk).stream_stream(timeout=options.patience)
        sent, heard, length = hashlib.sha256(), hashlib.sha256(), 0

        async def send():
            for _ in range(options.megabytes * 1_000_000 // options.chunk):
                data = os.urandom(options.chunk)
                sent.update(data)
                await call.write(lab.Chunk(data=data))
            await call.done_writing()

        async def hear():
            nonlocal length
            while (chunk := await call.read()) is not grpc.aio.EOF:
                heard.update(chunk.data)
                length += len(chunk.data)

        facts = lambda _: {"length": length, "same": sent.digest() == heard.digest()}
        return await outcome(asyncio.gather(send(), hear()), facts, call)

    async def fail(self, options):
        trailers = [lab.Pair(name=name, value=bytes_of(value)) for name, value in map(pair, options.trailer)]
        fault = lab.Fault(
            code=options.code, message=options.message, details=bytes.fromhex(options.status), trailers=trailers
        )
        call = self.method("/lab.Lab/Fail", lab.Fault, lab.Note).unary_unary(fault, timeout=options.patience)
        return await outcome(call, lambda note: {})

    async def wait(self, options):
        """A call that takes its time; `--patience` is its deadline, and it may be cancelled before."""
        call = self.method("/lab.Lab/Wait", lab.Number, lab.Note)
        call = call.unary_unary(lab.Number(value=options.milliseconds), timeout=options.patience)
        if options.cancel_after is not None:
            asyncio.get_running_loop().call_later(options.cancel_after, call.cancel)
        return await outcome(call, lambda note: {"text": note.text})

    async def knock(self, options):
        """Connects anew and calls, without pause, until a file is there; how often each status came."""
        codes = {}
        while not os.path.exists(options.until):
            channel = self.open()
            method = self.method("/lab.Lab/Echo", lab.Note, lab.Seen, channel)
            code = (await outcome(method.unary_unary(lab.Note(), timeout=options.patience), lambda _: {}))["code"]
            codes[code] = codes.get(code, 0) + 1
            await channel.close()
        return codes

    async def hold(self, options):
        """Opens a chat that stays open; `held` tells how it ended."""
        self.open_chat = self.method("/lab.Lab/Chat", lab.Note, lab.Note).stream_stream()

        async def talk():
            await self.open_chat.write(lab.Note(text="hold"))
            await self.open_chat.read()

        return await outcome(talk(), lambda _: {}, self.open_chat, ended=False)

    async def held(self, options):
        end = asyncio.wait_for(self.open_chat.read(), options.patience)
        return await outcome(end, lambda _: {}, self.open_chat)


async def outcome(work, facts, call=None, ended=True):
    """What a call came to: its reply, or the status that it ended with, and the metadata around them."""
    call = call if call is not None else work
    try:
        told = {"code": "OK", **facts(await work)}
        if ended:
            told["code"] = (await call.code()).name
            told["details"] = await call.details()
    except asyncio.CancelledError:
        told = {"code": "CANCELLED"}
    except asyncio.TimeoutError:
        return {"code": "nothing happened"}
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # The second: the call was over before everything was written.
        told = {"code": (await call.code()).name, "details": await call.details()}
        told["trailers"] = listed(await call.trailing_metadata())
    if ended and told["code"] == "OK":
        told["initial"], told["trailers"] = listed(await call.initial_metadata()), listed(await call.trailing_metadata())
    return told


async def gather(call, replies):
    async for reply in call:
        replies.append(fields(reply))
    # The status of a stream is an exception only when it is asked for.
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), await call.details())


def fields(message):
    return {field.name: value for field, value in message.ListFields()}


def listed(metadata):
    return [[name, readable(name, value)] for name, value in metadata or ()]


def readable(name, value):
    if name.endswith("-bin"):
        return value.hex()
    return value.decode() if isinstance(value, bytes) else value


def pair(text):
    name, value = text.split("=", 1)
    return name, bytes.fromhex(value) if name.endswith("-bin") else value


def bytes_of(value):
    return value if isinstance(value, bytes) else value.encode()


def commands():
    parser = argparse.ArgumentParser(prog="command")
    names = parser.add_subparsers(dest="name", required=True)

    def command(name, *arguments, of_multipass=False):
        entry = names.add_parser(name)
        entry.add_argument("--patience", type=float, default=60, help="seconds until the call's deadline")
        if of_multipass:
            entry.add_argument("--shape", choices=("old", "cli", "gui"), default="cli")
        for words, settings in arguments:
            entry.add_argument(*words, **settings)

    def argument(*words, **settings):
        return words, settings

    command("ping")
    command("authenticate", argument("passphrase"), of_multipass=True)
    command("get", argument("key"), of_multipass=True)
    command("set", argument("key"), argument("value"), of_multipass=True)
    command("version", of_multipass=True)
    command(
        "echo",
        argument("text"),
        argument("--times", type=int, default=1),
        argument("--metadata", action="append", default=[]),
        argument("--gzip", action="store_true"),
    )
    command("sum", argument("numbers", type=int, nargs="*"))
    command("count", argument("number", type=int))
    command("chat", argument("notes", nargs="*"))
    command("many", argument("number", type=int), argument("--connections", type=int, default=1))
    command("big", argument("megabytes", type=int), argument("--chunk", type=int, default=1_000_000))
    command(
        "fail",
        argument("code", type=int),
        argument("message"),
        argument("--status", default=""),
        argument("--trailer", action="append", default=[]),
    )
    command("wait", argument("milliseconds", type=int), argument("--cancel-after", type=float))
    command("knock", argument("--until", required=True))
    command("hold")
    command("held")
    return parser


async def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--target", required=True, help="unix:PATH or HOST:PORT")
    options.add_argument("--cert")
    options.add_argument("--key")
    options.add_argument("--root", help="what the server's certificate is verified with")
    options.add_argument("--authority", default="localhost", help="the name that the server has to prove")
    options.add_argument("--plain", action="store_true", help="without TLS")
    options.add_argument("command", nargs=argparse.REMAINDER)
    given = options.parse_args()
    client, parser = Client(given), commands()

    async def answer(words):
        asked = parser.parse_args(words)
        print(json.dumps(await getattr(client, asked.name)(asked)), flush=True)

    if given.command:
        await answer(given.command)
    else:
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await answer(json.loads(line))
    for channel in client.channels:
        await channel.close()


asyncio.run(main())
