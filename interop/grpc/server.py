"""A gRPC daemon that authenticates nobody: what stands behind the gateway in the tests.

It speaks plain HTTP/2 on a Unix socket and on a port of 127.0.0.1, and TLS on another port if it is given a key. A line
of JSON on standard output tells each address, and the beginning and the end of every call.
"""

import argparse
import asyncio
import json

import grpc
import lab_pb2 as lab
import multipass_pb2 as multipass


class Log:
    """Tells what happens, one line of JSON each."""

    def __init__(self):
        self.chats = 0

    def say(self, **facts):
        print(json.dumps(facts), flush=True)

    def call(self, behaviour):
        """A behaviour whose beginning and end are told, also when the client leaves in the middle."""

        async def told(request, context):
            name = behaviour.__name__
            self.say(event="begins", call=name, metadata=[[pair.name, pair.value.hex()] for pair in pairs(context)])
            try:
                reply = await behaviour(request, context)
            except asyncio.CancelledError:
                self.say(event="cancelled", call=name)
                raise
            self.say(event="ends", call=name)
            return reply

        return told


LOG = Log()


def pairs(context):
    metadata = context.invocation_metadata() or ()
    return [lab.Pair(name=name, value=value if isinstance(value, bytes) else value.encode()) for name, value in metadata]


def values(trailers):
    return tuple(
        (pair.name, pair.value if pair.name.endswith("-bin") else pair.value.decode()) for pair in trailers
    )


async def echo(note, context):
    await context.send_initial_metadata((("lab-greeting", "good day"), ("lab-greeting-bin", b"\x00\xff\x00")))
    context.set_trailing_metadata((("lab-farewell", "good bye"), ("lab-farewell-bin", b"\xff\x00\xff")))
    # Without a deadline some versions say `None` and others a very long time.
    remaining = context.time_remaining()
    known = {"remaining": remaining} if remaining is not None and remaining < 1e6 else {}
    return lab.Seen(text=note.text, metadata=pairs(context), peer=context.peer(), **known)


async def sum_(numbers, context):
    return lab.Number(value=sum([number.value async for number in numbers]))


async def count(number, context):
    for value in range(number.value):
        await context.write(lab.Number(value=value + 1))


async def chat(notes, context):
    LOG.chats += 1
    try:
        async for note in notes:
            await context.write(lab.Note(text=note.text, open=LOG.chats))
    finally:
        LOG.chats -= 1


async def big(chunks, context):
    async for chunk in chunks:
        await context.write(chunk)


async def fail(fault, context):
    trailers = values(fault.trailers)
    if fault.details:
        trailers += (("grpc-status-details-bin", fault.details),)
    code = next(code for code in grpc.StatusCode if code.value[0] == fault.code)
    await context.abort(code, fault.message, trailers)


async def wait(number, context):
    await asyncio.sleep(number.value / 1000)
    return lab.Note(text="waited")


async def ping(request, context):
    return multipass.PingReply()


async def authenticate(requests, context):
    async for _ in requests:
        await context.write(multipass.AuthenticateReply(log_line="the daemon was asked"))
        return


async def get(requests, context):
    async for request in requests:
        await context.write(multipass.GetReply(value=f"the daemon's {request.key}"))
        return


async def set_(requests, context):
    """Asks back before it sets anything, as Multipass does since 1.14."""
    async for request in requests:
        if request.authorized:
            await context.write(multipass.SetReply(reply_message=f"{request.key}={request.val}"))
            return
        await context.write(multipass.SetReply(needs_authorization=True))


async def version(requests, context):
    """A call of Multipass's service that is no part of logging in; its messages are of no interest here."""
    async for _ in requests:
        await context.write(multipass.PingReply())
        return


def handlers():
    unary = grpc.unary_unary_rpc_method_handler
    upload = grpc.stream_unary_rpc_method_handler
    download = grpc.unary_stream_rpc_method_handler
    both = grpc.stream_stream_rpc_method_handler

    def entry(kind, behaviour, request, reply):
        return kind(LOG.call(behaviour), request.FromString, reply.SerializeToString)

    return (
        grpc.method_handlers_generic_handler(
            "lab.Lab",
            {
                "Echo": entry(unary, echo, lab.Note, lab.Seen),
                "Sum": entry(upload, sum_, lab.Number, lab.Number),
                "Count": entry(download, count, lab.Number, lab.Number),
                "Chat": entry(both, chat, lab.Note, lab.Note),
                "Big": entry(both, big, lab.Chunk, lab.Chunk),
                "Fail": entry(unary, fail, lab.Fault, lab.Note),
                "Wait": entry(unary, wait, lab.Number, lab.Note),
            },
        ),
        grpc.method_handlers_generic_handler(
            "multipass.Rpc",
            {
                "ping": entry(unary, ping, multipass.PingRequest, multipass.PingReply),
                "authenticate": entry(both, authenticate, multipass.AuthenticateRequest, multipass.AuthenticateReply),
                "get": entry(both, get, multipass.GetRequest, multipass.GetReply),
                "set": entry(both, set_, multipass.SetRequest, multipass.SetReply),
                "version": entry(both, version, multipass.PingRequest, multipass.PingReply),
            },
        ),
    )


async def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--unix", required=True, metavar="PATH")
    options.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    given = options.parse_args()
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", -1),))
    server.add_generic_rpc_handlers(handlers())
    server.add_insecure_port(f"unix:{given.unix}")
    addresses = {"unix": given.unix, "tcp": server.add_insecure_port("127.0.0.1:0")}
    if given.tls:
        certificate, key = (open(path, "rb").read() for path in given.tls)
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        addresses["tls"] = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    LOG.say(event="listening", **addresses)
    await server.wait_for_termination()


asyncio.run(main())
