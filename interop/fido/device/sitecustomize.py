"""A security key in a file where programs look for one at the USB ports: what python-fido2 lists is this device.

Its messages are the raw ones of U2F (FIDO U2F Raw Message Formats, sections 3 and 5), as a key of hardware gets them; the
file of `SOFT_KEY` is its private half, and the times that it signed are counted beside it.
"""

import os
import struct


class SoftKey:
    SIGN, CHECKED, PRESENT, OK, UNKNOWN = 0x02, 0x07, 1, b"\x90\x00", b"\x6d\x00"

    def __init__(self, path):
        self.path = path

    def call(self, _command, message=b"", *_more):
        instruction, checked = message[1], message[2] == self.CHECKED
        if instruction != self.SIGN or checked:
            return self.UNKNOWN
        client, application = message[7:39], message[39:71]
        signed = struct.pack(">BI", self.PRESENT, self.count())
        return signed + self.sign(application + signed + client) + self.OK

    def count(self):
        path = self.path + ".times"
        times = 1
        if os.path.exists(path):
            with open(path) as file:
                times += int(file.read())
        with open(path, "w") as file:
            file.write(str(times))
        return times

    def sign(self, message):
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        with open(self.path, "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
        return key.sign(message, ec.ECDSA(hashes.SHA256()))


if "SOFT_KEY" in os.environ:
    from fido2.hid import CtapHidDevice
    CtapHidDevice.list_devices = classmethod(lambda _: iter([SoftKey(os.environ["SOFT_KEY"])]))
