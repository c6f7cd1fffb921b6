//! A device in memory, spoken to in reports: U2F and FIDO2 as a security key answers them.

use std::collections::VecDeque;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use ciborium::{Value, cbor};

use super::*;
use crate::keys::assertion::{hash, signed};

/// What a device is like.
#[derive(Clone, Default)]
struct Habits {
    /// It knows U2F only.
    old: bool,
    /// It has a finger's print.
    uv: bool,
    /// It asks to be touched so often before it signs.
    untouched: usize,
    /// Answers to anything with this error.
    fault: Option<u8>,
    /// Says this in place of CTAP2's status 0.
    status: u8,
    /// Reports of other programs lie between its own.
    noisy: bool,
    /// It never answers but that it still waits.
    asleep: bool,
    /// It signs for this application, whatever it is asked.
    elsewhere: Option<&'static str>,
}

/// The device.
struct Soft {
    habits: Habits,
    es256: EcdsaKeyPair,
    eddsa: Ed25519KeyPair,
    counter: u32,
    /// What is coming in: command, length, bytes so far.
    message: (u8, usize, Vec<u8>),
    out: VecDeque<[u8; REPORT]>,
}

const ID: [u8; 4] = [1, 2, 3, 4];
const HANDLE: &[u8] = &[0x5a; 100];

impl Soft {
    fn new(habits: Habits) -> Self {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let es256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).unwrap();
        let eddsa = Ed25519KeyPair::generate().unwrap();
        Self { habits, es256, eddsa, counter: 40, message: (0, 0, Vec::new()), out: VecDeque::new() }
    }

    fn frame(&mut self, id: [u8; 4], command: u8, message: &[u8]) {
        let mut put = |parts: &[&[u8]]| {
            let mut report = [0; REPORT];
            report.iter_mut().zip(parts.concat()).for_each(|(to, from)| *to = from);
            self.out.push_back(report);
        };
        let (first, rest) = message.split_at(message.len().min(57));
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        if self.habits.noisy {
            put(&[&[9; 4], &[0x83, 0, 1, 7]]);
            put(&[&id, &[KEEPALIVE, 0, 1, 2]]);
        }
        put(&[&id, &[command], &length, first]);
        for (number, part) in (0..).zip(rest.chunks(59)) {
            if self.habits.noisy {
                put(&[&[9; 4], &[number], part]);
            }
            put(&[&id, &[number], part]);
        }
    }

    fn handle(&mut self, id: [u8; 4], command: u8, message: &[u8]) {
        match (command, self.habits.fault) {
            (0x86, _) => {
                // Somebody else's answer first.
                self.frame(id, 0x86, &[[0; 8].as_slice(), &[8; 9]].concat());
                let capabilities = if self.habits.old { 0 } else { 0x04 };
                let answer = [message, &ID, &[2, 1, 0, 0, capabilities]].concat();
                self.frame(id, 0x86, &answer);
            }
            (0x91, _) => self.out.clear(),
            (_, Some(fault)) => self.frame(id, 0xbf, &[fault]),
            _ if self.habits.asleep => self.frame(id, KEEPALIVE, &[2]),
            (0x83, _) => {
                let answer = self.ctap1(message);
                self.frame(id, 0x83, &answer);
            }
            (0x90, _) => {
                let answer = self.ctap2(message);
                self.frame(id, 0x90, &answer);
            }
            other => panic!("no command of ours: {other:?}"),
        }
    }

    fn ctap1(&mut self, message: &[u8]) -> Vec<u8> {
        let (data, instruction) = (&message[7..message.len() - 2], message[1]);
        assert_eq!(
            (message[0], message[4], usize::from(u16::from_be_bytes([message[5], message[6]]))),
            (0, 0, data.len())
        );
        if self.habits.untouched > 0 {
            self.habits.untouched -= 1;
            return vec![0x69, 0x85];
        }
        let (challenge, app) = (&data[..32], &data[32..64]);
        let random = SystemRandom::new();
        if instruction == 1 {
            let point = self.es256.public_key().as_ref();
            let message = [&[0], app, challenge, HANDLE, point].concat();
            let maker = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::default().self_signed(&maker).unwrap();
            let document = maker.serialize_der();
            let maker = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &document).unwrap();
            let signature = maker.sign(&random, &message).unwrap();
            let length = u8::try_from(HANDLE.len()).unwrap();
            return [&[5], point, &[length], HANDLE, certificate.der(), signature.as_ref(), &[0x90, 0]]
                .concat();
        }
        assert_eq!((instruction, message[2]), (2, 3));
        if data[65..] != *HANDLE || usize::from(data[64]) != HANDLE.len() {
            return vec![0x6a, 0x80];
        }
        self.counter += 1;
        let signed = [app, &[1], &self.counter.to_be_bytes(), challenge].concat();
        let signature = self.es256.sign(&random, &signed).unwrap();
        [&[1], &self.counter.to_be_bytes()[..], signature.as_ref(), &[0x90, 0]].concat()
    }

    fn ctap2(&mut self, message: &[u8]) -> Vec<u8> {
        if self.habits.status != 0 && message[0] != 4 {
            return vec![self.habits.status];
        }
        let answer = match message[0] {
            4 => cbor!({ 1 => ["FIDO_2_0"], 4 => { "rk" => true, "uv" => self.habits.uv } }).unwrap(),
            command => {
                let request: Value = ciborium::from_reader(&message[1..]).unwrap();
                // Canonical: what is written again is the same.
                let mut again = vec![command];
                ciborium::into_writer(&request, &mut again).unwrap();
                assert_eq!(again, message);
                let field = |key: i64| {
                    let map = request.as_map().unwrap();
                    map.iter().find(|(found, _)| *found == Value::from(key)).map(|(_, value)| value.clone())
                };
                if command == 1 { self.make(&field) } else { self.assert(&field) }
            }
        };
        let mut out = vec![0];
        match answer {
            Value::Null => out[0] = 0x2e,
            answer => ciborium::into_writer(&answer, &mut out).unwrap(),
        }
        out
    }

    fn make(&mut self, field: &dyn Fn(i64) -> Option<Value>) -> Value {
        let relying = field(2).unwrap();
        let app = relying.as_map().unwrap()[0].1.as_text().unwrap().to_owned();
        let algorithm = field(4).unwrap().as_array().unwrap()[0].as_map().unwrap()[0].1.as_integer().unwrap();
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        let key = if algorithm == (-7).into() {
            let point = self.es256.public_key().as_ref();
            cbor!({ 1 => 2, 3 => -7, -1 => 1, -2 => bytes(&point[1..33]), -3 => bytes(&point[33..]) })
        } else {
            cbor!({ 1 => 1, 3 => -8, -1 => 6, -2 => bytes(self.eddsa.public_key().as_ref()) })
        };
        let mut cose = Vec::new();
        ciborium::into_writer(&key.unwrap(), &mut cose).unwrap();
        let length = u16::try_from(HANDLE.len()).unwrap().to_be_bytes();
        let data = [&hash(app.as_bytes())[..], &[0x41], &[0; 4], &[0; 16], &length, HANDLE, &cose].concat();
        cbor!({ 1 => "none", 2 => bytes(&data), 3 => {} }).unwrap()
    }

    fn assert(&mut self, field: &dyn Fn(i64) -> Option<Value>) -> Value {
        let app = field(1).unwrap().as_text().unwrap().to_owned();
        let allowed = field(3).unwrap().as_array().unwrap()[0].as_map().unwrap()[0].1.clone();
        if allowed != Value::Bytes(HANDLE.to_vec()) {
            return Value::Null;
        }
        let asks_uv = field(5).is_some();
        assert_eq!(asks_uv, self.habits.uv);
        self.counter += 1;
        let flags = if asks_uv { 0x05 } else { 0x01 };
        let app = self.habits.elsewhere.unwrap_or(&app);
        let challenge: [u8; 32] = field(2).unwrap().as_bytes().unwrap().as_slice().try_into().unwrap();
        let message = signed(app, flags, self.counter, &challenge);
        let signature = self.eddsa.sign(&message);
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        cbor!({ 2 => bytes(&message[..37]), 3 => bytes(signature.as_ref()) }).unwrap()
    }
}

const KEEPALIVE: u8 = 0xbb;

impl Reports for Soft {
    fn send(&mut self, report: &[u8; REPORT]) -> io::Result<()> {
        let id: [u8; 4] = report[..4].try_into().unwrap();
        if report[4] & 0x80 != 0 {
            let length = usize::from(u16::from_be_bytes([report[5], report[6]]));
            assert_eq!(id, if report[4] == 0x86 { [0xff; 4] } else { ID });
            self.message = (report[4], length, report[7..].to_vec());
        } else {
            assert_eq!((id, usize::from(report[4])), (ID, (self.message.2.len() - 57) / 59));
            self.message.2.extend_from_slice(&report[5..]);
        }
        if self.message.2.len() >= self.message.1 {
            let (command, length, mut message) = std::mem::take(&mut self.message);
            message.truncate(length);
            self.handle(id, command, &message);
        }
        Ok(())
    }

    fn receive(&mut self, within: Duration) -> io::Result<Option<[u8; REPORT]>> {
        if self.out.is_empty() {
            std::thread::sleep(within.min(Duration::from_millis(20)));
        }
        Ok(self.out.pop_front())
    }
}

fn device(habits: Habits) -> Device {
    Device::over(Box::new(Soft::new(habits)), Duration::from_secs(5)).unwrap()
}

fn new(kind: Kind, algorithm: Algorithm) -> NewKey<'static> {
    NewKey { kind, app_id: "Xpra", user: "alice", algorithm }
}

fn signing(kind: Kind, handle: &[u8]) -> Signing<'_> {
    Signing { kind, app_id: "Xpra", client_data_hash: [7; 32], handle }
}

#[test]
fn a_key_is_made_and_signs_by_u2f_once_it_is_touched() {
    for (kind, old) in [(Kind::U2f, false), (Kind::U2f, true), (Kind::Fido2, true)] {
        for noisy in [false, true] {
            let mut device = device(Habits { old, noisy, untouched: 2, ..Habits::default() });
            let made = device.register(&new(kind, Algorithm::Es256)).unwrap();
            assert_eq!(made.handle, HANDLE);
            let assertion = device.sign(&signing(kind, &made.handle)).unwrap();
            assert_eq!((assertion.flags, assertion.counter), (Assertion::PRESENT, 41));
            assert!(made.key.verifies(&assertion.signed("Xpra", &[7; 32]), &assertion.signature));
        }
    }
}

#[test]
fn a_key_is_made_and_signs_by_fido2_and_knows_its_user_where_it_can() {
    for (uv, flags) in [(false, 0x01), (true, 0x05)] {
        let mut device = device(Habits { uv, noisy: true, ..Habits::default() });
        let made = device.register(&new(Kind::Fido2, Algorithm::EdDsa)).unwrap();
        assert_eq!((made.handle.as_slice(), made.key.algorithm()), (HANDLE, Algorithm::EdDsa));
        let assertion = device.sign(&signing(Kind::Fido2, &made.handle)).unwrap();
        assert_eq!((assertion.flags, assertion.counter), (flags, 41));
        assert!(made.key.verifies(&assertion.signed("Xpra", &[7; 32]), &assertion.signature));
    }
    let made = device(Habits::default()).register(&new(Kind::Fido2, Algorithm::Es256)).unwrap();
    assert_eq!(made.key.algorithm(), Algorithm::Es256);
}

#[test]
fn a_device_that_cannot_or_may_not_says_why() {
    let with = |habits: Habits, kind| device(habits).sign(&signing(kind, HANDLE)).unwrap_err();
    for kind in [Kind::U2f, Kind::Fido2] {
        let strange = device(Habits::default()).sign(&signing(kind, &[1; 64])).unwrap_err();
        assert!(matches!(strange, KeyError::NotMine), "{strange}");
        let busy = with(Habits { fault: Some(0x06), ..Habits::default() }, kind);
        assert!(busy.to_string().contains("another program"), "{busy}");
    }
    let status = |status| with(Habits { status, ..Habits::default() }, Kind::Fido2);
    assert!(matches!(status(0x36), KeyError::WantsPin));
    assert!(matches!(status(0x2f), KeyError::NobodyThere));
    assert!(matches!(status(0x7f), KeyError::Broken(_)));
    let elsewhere = Habits { elsewhere: Some("other"), ..Habits::default() };
    assert!(matches!(with(elsewhere, Kind::Fido2), KeyError::Broken(_)));
    assert!(
        device(Habits { old: true, ..Habits::default() })
            .register(&new(Kind::Fido2, Algorithm::EdDsa))
            .is_err()
    );
}

#[test]
fn nobody_who_touches_it_is_waited_for_as_long_as_was_said() {
    for habits in
        [Habits { asleep: true, ..Habits::default() }, Habits { untouched: 1000, ..Habits::default() }]
    {
        let mut device = Device::over(Box::new(Soft::new(habits)), Duration::from_millis(300)).unwrap();
        let since = std::time::Instant::now();
        let error = device.sign(&signing(Kind::U2f, HANDLE)).unwrap_err();
        assert!(matches!(error, KeyError::NobodyThere), "{error}");
        assert!(since.elapsed() < Duration::from_secs(3));
    }
}

#[test]
fn reports_at_random_are_no_device_and_nothing_breaks() {
    /// Gives what it is given, and sends nowhere.
    struct Noise(VecDeque<[u8; REPORT]>);
    impl Reports for Noise {
        fn send(&mut self, _: &[u8; REPORT]) -> io::Result<()> {
            Ok(())
        }
        fn receive(&mut self, _: Duration) -> io::Result<Option<[u8; REPORT]>> {
            Ok(self.0.pop_front())
        }
    }
    for round in 0..200_u8 {
        let mut reports = VecDeque::new();
        for _ in 0..20 {
            let mut report = [0; REPORT];
            getrandom::fill(&mut report).unwrap();
            // On our channel, and often of the right kind.
            report[..4].fill(0xff);
            if round % 2 == 0 {
                report[4] = 0x86;
                report[5] = 0;
            }
            reports.push_back(report);
        }
        assert!(Device::over(Box::new(Noise(reports)), Duration::from_secs(1)).is_err());
    }
}
