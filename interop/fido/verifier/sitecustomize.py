"""`verifier()` of public keys, as `cryptography` had it up to version 36: Xpra 3.1 calls it."""

try:
    from cryptography.hazmat.backends.openssl.ec import _EllipticCurvePublicKey as PublicKey
except ImportError:
    PublicKey = None


class Verifier:
    def __init__(self, key, signature, algorithm):
        self.key, self.signature, self.algorithm, self.message = key, signature, algorithm, b""

    def update(self, part):
        self.message += part

    def verify(self):
        self.key.verify(self.signature, self.message, self.algorithm)


if PublicKey is not None and not hasattr(PublicKey, "verifier"):
    PublicKey.verifier = lambda key, signature, algorithm: Verifier(key, signature, algorithm)
