"""An issuer of tokens for tests: discovery, keys that change, introspection, and the device flow.

Real JWTs, signed with PyJWT and cryptography. Prints `listening on PORT`. Under `/lab/` the test has its own way in:
it mints tokens of any shape, changes the keys, and reads what was asked.
"""

import argparse
import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

LOCK = threading.Lock()
STATE = {"keys": {}, "opaque": {}, "asked": {}, "slow": 0, "pending": 1, "life": 3600, "claims": {}, "devices": {}}


def new_key(kid, kind):
    if kind == "RSA":
        STATE["keys"][kid] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        STATE["keys"][kid] = ec.generate_private_key(ec.SECP256R1())


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value, length=None):
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


def jwk(kid, key):
    public = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"kty": "RSA", "use": "sig", "kid": kid, "n": number(public.n), "e": number(public.e)}
    return {"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "x": number(public.x, 32), "y": number(public.y, 32)}


def pem(key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def mint(order):
    """A token as it was ordered: `alg`, `kid`, `key` (whose key signs), `header`, `claims`."""
    claims, alg = order["claims"], order["alg"]
    header = dict(order.get("header", {}))
    if "kid" in order:
        header["kid"] = order["kid"]
    key = STATE["keys"].get(order.get("key", order.get("kid")))
    if alg in ("none", "HS256"):
        signed = b64(json.dumps({"typ": "JWT", **header, "alg": alg}).encode()) + "." + b64(json.dumps(claims).encode())
        signature = b"" if alg == "none" else hmac.new(pem(key), signed.encode(), hashlib.sha256).digest()
        return signed + "." + b64(signature)
    return jwt.encode(claims, key, algorithm=alg, headers=header)


class Issuer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        with LOCK:
            STATE["asked"][self.path] = STATE["asked"].get(self.path, 0) + 1
            slow = STATE["slow"]
        if not self.path.startswith("/lab/"):
            time.sleep(slow)
        base = self.server.base
        with LOCK:
            if self.path == "/realm/.well-known/openid-configuration":
                self.answer({
                    "issuer": base + "/realm",
                    "jwks_uri": base + "/keys",
                    "token_endpoint": base + "/token",
                    "device_authorization_endpoint": base + "/device",
                })
            elif self.path == "/liar/.well-known/openid-configuration":
                self.answer({"issuer": base + "/realm", "jwks_uri": base + "/keys"})
            elif self.path == "/.well-known/oauth-authorization-server/plain":
                self.answer({"issuer": base + "/plain", "jwks_uri": base + "/keys"})
            elif self.path == "/moved/.well-known/openid-configuration":
                self.send_response(302)
                self.send_header("Location", base + "/realm/.well-known/openid-configuration")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif self.path == "/keys":
                odd = [{"kty": "future", "kid": "odd"}, {"kty": "oct", "kid": "shared", "k": b64(b"known to all")}]
                self.answer({"keys": odd + [jwk(kid, key) for kid, key in STATE["keys"].items()]})
            elif self.path == "/lab/asked":
                self.answer(STATE["asked"])
            else:
                self.answer({"error": "not found"}, 404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        with LOCK:
            STATE["asked"][self.path] = STATE["asked"].get(self.path, 0) + 1
            slow = STATE["slow"]
        if self.path.startswith("/lab/"):
            order = json.loads(body)
            with LOCK:
                self.lab(order)
            return
        time.sleep(slow)
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        with LOCK:
            if self.path == "/introspect":
                expected = "Basic " + base64.b64encode(b"gate%20way:se%3Acret").decode()
                if self.headers.get("Authorization") != expected:
                    self.answer({"error": "invalid_client"}, 401)
                else:
                    self.answer(STATE["opaque"].get(form.get("token"), {"active": False}))
            elif self.path == "/device":
                code = "device-" + str(len(STATE["devices"]))
                STATE["devices"][code] = {"polls": 0, "form": form}
                self.answer({
                    "device_code": code,
                    "user_code": "WDJB-MJHT",
                    "verification_uri": self.server.base + "/go",
                    "expires_in": 60,
                    "interval": 1,
                })
            elif self.path == "/token":
                self.token(form)
            else:
                self.answer({"error": "not found"}, 404)

    def token(self, form):
        if form.get("grant_type") == "refresh_token":
            if form.get("refresh_token") != "renewal":
                return self.answer({"error": "invalid_grant"}, 400)
        else:
            device = STATE["devices"].get(form.get("device_code"))
            if device is None or form.get("client_id") != device["form"].get("client_id"):
                return self.answer({"error": "invalid_grant"}, 400)
            device["polls"] += 1
            if device["polls"] <= STATE["pending"]:
                return self.answer({"error": "authorization_pending"}, 400)
        claims = {**STATE["claims"], "exp": int(time.time()) + 3600, "iss": self.server.base + "/realm"}
        self.answer({
            "access_token": mint({"alg": "RS256", "kid": "first", "claims": claims}),
            "token_type": "Bearer",
            "expires_in": STATE["life"],
            "refresh_token": "renewal",
        })

    def lab(self, order):
        if self.path == "/lab/mint":
            self.answer({"token": mint(order)})
        elif self.path == "/lab/key":
            new_key(order["kid"], order["kind"])
            if order.get("drop"):
                del STATE["keys"][order["drop"]]
            self.answer({})
        elif self.path == "/lab/set":
            STATE.update(order)
            self.answer({})
        else:
            self.answer({}, 404)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", nargs=2)
    arguments = parser.parse_args()
    new_key("first", "RSA")
    new_key("second", "EC")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    server.daemon_threads = True
    scheme = "http"
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*arguments.tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    server.base = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    print(f"issuing at {server.base}", flush=True)
    server.serve_forever()


main()
