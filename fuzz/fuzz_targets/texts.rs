//! Short texts that come from elsewhere: invitations, public keys, names of keys, secrets of one-time codes, services
//! of Kerberos.
#![no_main]

use countersign::{
    Secret, Username,
    keys::{KeyName, PublicKey},
    trust::Token,
};
use countersign_proto::mechanism::{otp::OtpSecret, ticket::Service};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(secret) = OtpSecret::parse(&Secret::new(input), 1) {
        let at = 1_000_000_000;
        assert!(secret.period() > 0);
        assert!(secret.check(&secret.code(at), at).is_some(), "the code of now is right now");
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(token) = text.parse::<Token>() {
        let written = token.expose();
        let again: Token = written.parse().expect("what was written can be read");
        assert_eq!((again.server(), again.address()), (token.server(), token.address()));
        assert_eq!(*again.expose(), *written);
    }
    if let Ok(key) = PublicKey::from_hex(text) {
        assert_eq!(PublicKey::from_hex(&key.to_hex()).expect("what was written can be read"), key);
        assert!(!key.verifies(b"message", input), "nobody has signed this");
    }
    if let Ok(service) = Service::parse(text) {
        assert_eq!(Service::parse(&service.to_string()), Ok(service));
    }
    let _ = text.parse::<KeyName>();
    if let Ok(name) = Username::parse(text) {
        assert_eq!(Username::parse(name.as_str()).expect("a name is one"), name);
    }
});
