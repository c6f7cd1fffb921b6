"""A security key and its verifier, of python-fido2 and cryptography: nothing in here knows the gateway.

    key.py new ALGORITHM FILE                                     -> public key
    key.py sign FILE DIALECT APP ORIGIN CHALLENGE FLAGS COUNTER   -> response, what is sent beside it
    key.py verify PUBLIC-KEY APP ORIGIN CHALLENGE RESPONSE        -> flags, counter

Bytes are in hexadecimal digits. The dialect is `u2f` (the client data of U2F's JavaScript) or `webauthn` (a browser's).
"""

import json
import struct
import sys
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from fido2.client import ClientData
from fido2.cose import ES256, EdDSA
from fido2.ctap1 import SignatureData
from fido2.ctap2 import AssertionResponse, AuthenticatorData
from fido2.utils import websafe_encode


def new(algorithm, path):
    key = ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with open(path, "wb") as file:
        file.write(pem)
    print(key.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo).hex())


def sign(path, dialect, app, origin, challenge, flags, counter):
    with open(path, "rb") as file:
        key = form.load_pem_private_key(file.read(), None)
    flags, counter, rp = int(flags), int(counter), sha256(app.encode()).digest()
    data = client_data(dialect, origin, bytes.fromhex(challenge))
    message = AuthenticatorData.create(rp, flags, counter) + sha256(data).digest()
    ecdsa = isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(message, ec.ECDSA(hashes.SHA256())) if ecdsa else key.sign(message)
    response = struct.pack(">BI", flags, counter) + signature
    check((ES256 if ecdsa else EdDSA).from_cryptography_key(key.public_key()), rp, data, response)
    print(response.hex(), (data if dialect == "webauthn" else origin.encode()).hex())


def verify(public, app, origin, challenge, response):
    key = form.load_der_public_key(bytes.fromhex(public))
    kind = ES256 if isinstance(key, ec.EllipticCurvePublicKey) else EdDSA
    data = client_data("u2f", origin, bytes.fromhex(challenge))
    response = bytes.fromhex(response)
    check(kind.from_cryptography_key(key), sha256(app.encode()).digest(), data, response)
    print(response[0], struct.unpack(">I", response[1:5])[0])


def client_data(dialect, origin, challenge):
    if dialect == "webauthn":
        return ClientData.build(type="webauthn.get", challenge=websafe_encode(challenge), origin=origin)
    # What a U2F library writes down for `navigator.id.getAssertion`, its keys in order.
    data = {"challenge": websafe_encode(challenge), "origin": origin, "typ": "navigator.id.getAssertion"}
    return json.dumps(data, sort_keys=True).encode()


def check(key, rp, data, response):
    """As python-fido2 verifies: by its U2F where that fits, and by its FIDO2."""
    client_param = sha256(data).digest()
    raw = SignatureData(response)
    if isinstance(key, ES256):
        raw.verify(rp, client_param, b"\x04" + key[-2] + key[-3])
    authenticator = AuthenticatorData.create(rp, raw.user_presence, raw.counter)
    AssertionResponse.create({"type": "public-key", "id": b"any"}, authenticator, raw.signature).verify(client_param, key)


{"new": new, "sign": sign, "verify": verify}[sys.argv[1]](*sys.argv[2:])
