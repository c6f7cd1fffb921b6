"""One end of a SCRAM login that knows nothing of the product: base64 lines in, base64 lines out.

    sasl.py client|server MECHANISM NAME PASSWORD [BINDING]

SHA-256 is done by GNU SASL, through its C library; SHA-512, which that has not, by what Python brings along. BINDING is
tls-exporter data in base64. The last line is `done`, or `failed: WHY`.
"""

import base64
import ctypes
import hashlib
import hmac
import os
import sys

# Numbers of gsasl.h.
OK, NEEDS_MORE = 0, 1
AUTHID, PASSWORD, SCRAM_ITER, CB_TLS_EXPORTER = 1, 3, 15, 25


def say(line):
    print(line, flush=True)


def hear():
    return sys.stdin.readline().strip()


def gnu(end, mechanism, name, password, binding):
    library = ctypes.CDLL("libgsasl.so.18")
    library.gsasl_strerror.restype = ctypes.c_char_p
    context, session = ctypes.c_void_p(), ctypes.c_void_p()
    must(library, library.gsasl_init(ctypes.byref(context)))
    start = getattr(library, f"gsasl_{end}_start")
    must(library, start(context, mechanism.encode(), ctypes.byref(session)))
    properties = [(PASSWORD, password), (SCRAM_ITER, "4096")]
    if end == "client":
        properties.append((AUTHID, name))
    if binding:
        properties.append((CB_TLS_EXPORTER, binding))
    for number, value in properties:
        library.gsasl_property_set(session, number, value.encode())
    heard = "" if end == "client" else hear()
    while True:
        answer = ctypes.c_char_p()
        code = library.gsasl_step64(session, heard.encode(), ctypes.byref(answer))
        must(library, code, NEEDS_MORE)
        if answer.value:
            say(answer.value.decode())
        if code == OK:
            return
        heard = hear()


def must(library, code, also=OK):
    if code not in (OK, also):
        say(f"failed: {library.gsasl_strerror(code).decode()}")
        sys.exit(1)


def own(end, mechanism, name, password, binding):
    """The client's end and the server's, word for word as RFC 5802 has them."""

    def mac(key, text):
        return hmac.new(key, text, "sha512").digest()

    def code(octets):
        return base64.b64encode(octets).decode()

    nonce = code(os.urandom(18))
    if end == "client":
        header = "p=tls-exporter,," if binding else "n,,"
        bare = f"n={name},r={nonce}"
        say(code((header + bare).encode()))
        first = base64.b64decode(hear()).decode()
        fields = dict(field.split("=", 1) for field in first.split(","))
        salt, rounds, whole = base64.b64decode(fields["s"]), int(fields["i"]), fields["r"]
        assert whole.startswith(nonce) and whole != nonce
        channel = header.encode() + base64.b64decode(binding or "")
    else:
        greeting = base64.b64decode(hear()).decode()
        flag, _, bare = greeting.split(",", 2)
        salt, rounds = os.urandom(16), 4096
        whole = bare.split(",r=")[1] + nonce
        first = f"r={whole},s={code(salt)},i={rounds}"
        say(code(first.encode()))
        channel = f"{flag},,".encode() + (base64.b64decode(binding) if flag.startswith("p=") else b"")
    salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    key = mac(salted, b"Client Key")
    spoken = f"c={code(channel)},r={whole}"
    signed = f"{bare},{first},{spoken}".encode()
    signature = mac(hashlib.sha512(key).digest(), signed)
    last = f"{spoken},p={code(bytes(a ^ b for a, b in zip(key, signature)))}"
    proof = "v=" + code(mac(mac(salted, b"Server Key"), signed))
    if end == "client":
        say(code(last.encode()))
        if base64.b64decode(hear()).decode() != proof:
            say("failed: the server does not know the password")
            sys.exit(1)
    else:
        if base64.b64decode(hear()).decode() != last:
            say("failed: the proof is wrong")
            sys.exit(1)
        say(code(proof.encode()))


end, mechanism, name, password, *rest = sys.argv[1:]
by = own if "512" in mechanism else gnu
by(end, mechanism, name, password, rest[0] if rest else "")
say("done")
