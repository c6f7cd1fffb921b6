//! `capability`: a word in the hello that a proxy in front vouches for.

use super::{
    Context, Module, OptionSpec, Options,
    proxy::{PROXY, PROXY_USER, Proxy},
};
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Verifier,
    error::ConfigError,
    proto::{chain::CheckPeer, identity::Capabilities},
};

pub(super) struct Capability;

impl Module for Capability {
    fn name(&self) -> &'static str {
        "capability"
    }

    fn summary(&self) -> &'static str {
        "lets in whose hello a trusted proxy gave a certain word"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "Nothing is asked: the hello has to hold the capability property with exactly the text value (a number counts \
         as its digits; dots lead into dictionaries), from the first hello on. Every client can say any word, and says \
         it again at every server, so it means something only behind a proxy that sets or removes the property \
         itself, and that nobody can go around. Who is taken for that proxy: on TCP the addresses of proxy, nobody \
         without it; on a Unix socket root, the gateway's own user and the users of proxy-user. Everybody else is \
         refused whatever they say. It names nobody."
    }

    fn example(&self) -> &'static str {
        "capability(property=front-door, value=\"a long word\", proxy=192.0.2.10)"
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        // W28: without these two it would pass every client that does not say the property.
        let property = options.required("property")?.to_string();
        if property.len() > MOST_NAME || property.starts_with("challenge") {
            let fix = "write the name of another capability, of at most 255 bytes";
            return Err(options.error("property", "no hello can hold it", fix));
        }
        let value = options.secret("value")?;
        if value.expose().len() > Capabilities::MAX_BYTES {
            return Err(options.error("value", "no hello can hold it", "write a text of at most 4 KiB"));
        }
        Ok(Verifier::Peer(Box::new(Word { property: [property], value, proxy: Proxy::take(options)? })))
    }
}

/// The configured word, and from whom it counts.
struct Word {
    property: [String; 1],
    value: Secret,
    proxy: Proxy,
}

impl CheckPeer for Word {
    fn check(&self, peer: &Peer, claim: &Claim) -> Result<Option<Identity>, Refusal> {
        if !self.proxy.is(peer) {
            return Err(Refusal::peer_denied("the client is not the proxy that is trusted to say it"));
        }
        let [property] = &self.property;
        match claim.capabilities.find(property) {
            Some(said) if self.value.matches(said.expose()) => Ok(None),
            Some(_) => Err(Refusal::peer_denied("the capability has another value")),
            None => Err(Refusal::peer_denied("the hello does not hold the capability")),
        }
    }

    fn may_block(&self) -> bool {
        false
    }

    fn reads(&self) -> &[String] {
        &self.property
    }
}

/// The longest name of a capability in bytes.
const MOST_NAME: usize = 255;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("property", "NAME", "", "the capability of the hello"),
    OptionSpec::new("value", "TEXT", "", "what it has to be"),
    PROXY,
    PROXY_USER,
];

#[cfg(test)]
mod tests {
    use crate::sys::accounts::own_uid;

    use super::*;
    use crate::{
        modules::login::link,
        proto::{error::Reason, peer::Credentials},
    };

    const WORD: [(&str, &str); 3] =
        [("property", "front.door"), ("value", "open sesame"), ("proxy", "192.0.2.0/24")];

    fn check(peer: &Peer, said: Option<(&str, &str)>) -> Result<Option<Identity>, Reason> {
        let Verifier::Peer(word) = link("capability", &WORD).unwrap().verifier else {
            panic!("nothing is asked")
        };
        assert_eq!(word.reads(), ["front.door"]);
        let claim = Claim::named("alice").unwrap();
        let claim = match said {
            Some((name, text)) => claim.saying(name, Secret::new(text)),
            None => claim,
        };
        word.check(peer, &claim).map_err(|refusal| refusal.reason)
    }

    fn tcp(address: &str) -> Peer {
        Peer::tcp(address.parse().unwrap(), "192.0.2.1:10000".parse().unwrap())
    }

    #[test]
    fn w28_without_property_or_value_nothing_starts() {
        for wrong in [
            &[][..],
            &[("property", "display")],
            &[("value", "x")],
            &[("property", "display"), ("value", "")],
            &[("property", ""), ("value", "x")],
            &[("property", "challenge_response"), ("value", "x")],
            &[("property", "display"), ("value", "x"), ("proxy", "somewhere")],
            &[("property", "display"), ("value", "x"), ("proxy-user", "no such user")],
        ] {
            assert!(link("capability", wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn w28_the_whole_word_counts_and_nothing_else_does() {
        let proxy = tcp("192.0.2.7:5");
        assert_eq!(check(&proxy, Some(("front.door", "open sesame"))), Ok(None));
        for other in ["", "open", "open sesame ", "Open sesame", "open sesame\0"] {
            assert_eq!(check(&proxy, Some(("front.door", other))), Err(Reason::PeerDenied), "{other:?}");
        }
        assert_eq!(check(&proxy, None), Err(Reason::PeerDenied));
        assert_eq!(check(&proxy, Some(("front", "open sesame"))), Err(Reason::PeerDenied));
    }

    #[test]
    fn the_right_word_from_anybody_but_the_proxy_is_refused() {
        let said = Some(("front.door", "open sesame"));
        let user = |uid| Peer::unix(Some(Credentials::new(uid, 0)));
        assert_eq!(check(&user(0), said), Ok(None));
        assert_eq!(check(&user(own_uid()), said), Ok(None));
        for stranger in [tcp("198.51.100.1:5"), tcp("127.0.0.1:5"), user(3_999_999_999), Peer::unix(None)] {
            assert_eq!(check(&stranger, said), Err(Reason::PeerDenied), "{stranger}");
        }
    }
}
