//! `http-header`: what a proxy in front says in the HTTP request of a WebSocket.

use super::{
    Context, Module, OptionSpec, Options,
    proxy::{PROXY, PROXY_USER, Proxy},
};
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Username, Verifier,
    error::ConfigError,
    proto::{chain::CheckPeer, peer::HttpFields},
};

pub(super) struct HttpHeader;

impl Module for HttpHeader {
    fn name(&self) -> &'static str {
        "http-header"
    }

    fn summary(&self) -> &'static str {
        "believes the HTTP request that a trusted proxy passes on"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "Nothing is asked. With user-header the field of that name says who it is, as a proxy writes it that has logged \
         its user in (nginx: proxy_set_header X-Remote-User $remote_user). With property the field of that name has to \
         be exactly the text value, and names nobody; with both options both count, and with neither the proxy has to \
         say that its own client came by TLS (X-Forwarded-Proto: https). The case of a name does not matter, a field \
         that is missing or there twice refuses. Every client can send any field, so this means something only behind \
         a proxy that sets or removes it itself, and that nobody can go around. Who is taken for that proxy: on TCP the \
         addresses of proxy, nobody without it; on a Unix socket root, the gateway's own user and the users of \
         proxy-user. Everybody else is refused whatever they send. It needs a socket that takes WebSocket; a client \
         that comes to it without one has sent no request and is refused."
    }

    fn example(&self) -> &'static str {
        "http-header(user-header=X-Remote-User, proxy=192.0.2.10)"
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let user = field(options, "user-header")?;
        let property = field(options, "property")?;
        let value = if options.has("value") { Some(options.secret("value")?) } else { None };
        let word = match (&user, property, value) {
            (Some(_), None, None) => None,
            (_, property, value) => Some(Word {
                property: property.unwrap_or_else(|| "X-Forwarded-Proto".to_owned()),
                value: value.unwrap_or_else(|| Secret::new("https")),
            }),
        };
        let reads = user.iter().chain(word.as_ref().map(|word| &word.property)).cloned().collect();
        Ok(Verifier::Peer(Box::new(Fields { proxy: Proxy::take(options)?, user, word, reads })))
    }
}

/// What the fields have to say, and from whom it counts.
struct Fields {
    proxy: Proxy,
    /// The field that names the user.
    user: Option<String>,
    word: Option<Word>,
    reads: Vec<String>,
}

/// A field that has to have this value.
struct Word {
    property: String,
    value: Secret,
}

impl CheckPeer for Fields {
    fn check(&self, peer: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        if !self.proxy.is(peer) {
            return Err(Refusal::peer_denied("the client is not the proxy that is trusted to say it"));
        }
        let Some(http) = &peer.http else {
            return Err(Refusal::peer_denied("the client came without an HTTP request"));
        };
        if let Some(Word { property, value }) = &self.word
            && !value.matches(only(http, property)?.expose())
        {
            return Err(Refusal::peer_denied("the field of the request has another value"));
        }
        let Some(user) = &self.user else { return Ok(None) };
        let name = std::str::from_utf8(only(http, user)?.expose());
        let name = name.map_err(|_| Refusal::peer_denied("the user's name is not UTF-8"))?;
        Ok(Some(Identity::new(Username::parse(name)?)))
    }

    fn may_block(&self) -> bool {
        false
    }

    fn reads_http(&self) -> &[String] {
        &self.reads
    }
}

/// The value of a field that is there once: of two, nobody knows which one the proxy wrote.
fn only<'a>(http: &'a HttpFields, name: &str) -> Result<&'a Secret, Refusal> {
    let mut values = http.values(name);
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (None, _) => Err(Refusal::peer_denied("the request does not have the field")),
        (Some(_), Some(_)) => Err(Refusal::peer_denied("the request has the field twice")),
    }
}

/// The name of a field (RFC 9110 section 5.6.2).
fn field(options: &mut Options, name: &str) -> Result<Option<String>, ConfigError> {
    let Some(text) = options.take(name)? else { return Ok(None) };
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.len() <= LONGEST_NAME && text.bytes().all(sign) {
        true => Ok(Some(text.to_string())),
        false => {
            Err(options.error(name, "no request has such a field", "write its name alone: X-Remote-User"))
        }
    }
}

const LONGEST_NAME: usize = 255;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("property", "FIELD", "X-Forwarded-Proto without user-header", "a field of the request"),
    OptionSpec::new("value", "TEXT", "https", "what it has to be"),
    OptionSpec::new("user-header", "FIELD", "", "the field that says who it is"),
    PROXY,
    PROXY_USER,
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        modules::login::link,
        proto::{error::Reason, peer::Credentials},
    };

    fn check(
        options: &[(&str, &str)],
        peer: Peer,
        fields: &[(&str, &str)],
    ) -> Result<Option<String>, Reason> {
        let Verifier::Peer(module) = link("http-header", options).unwrap().verifier else {
            panic!("nothing is asked")
        };
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        let mut peer = peer;
        peer.http = Some(Arc::new(HttpFields::new(fields)));
        let named = module.check(&peer, &Claim::named("mallory").unwrap());
        named.map(|who| who.map(|who| who.name.to_string())).map_err(|refusal| refusal.reason)
    }

    fn tcp(address: &str) -> Peer {
        Peer::tcp(address.parse().unwrap(), "192.0.2.1:80".parse().unwrap())
    }

    const USER: [(&str, &str); 2] = [("user-header", "X-Remote-User"), ("proxy", "192.0.2.7")];

    #[test]
    fn the_field_says_who_it_is_whatever_the_client_claims() {
        let proxy = || tcp("192.0.2.7:5");
        assert_eq!(check(&USER, proxy(), &[("x-remote-user", "alice")]), Ok(Some("alice".into())));
        for wrong in [
            &[][..],
            &[("X-Remote-User", "alice"), ("x-remote-user", "alice")],
            &[("X_Remote_User", "alice")],
            &[("X-Remote-User", "")],
            &[("X-Remote-User", "alice\0")],
            &[("X-Remote-User", "-alice")],
        ] {
            assert!(check(&USER, proxy(), wrong).is_err(), "{wrong:?}");
        }
        let mut without = proxy();
        without.http = None;
        let module = link("http-header", &USER).unwrap();
        assert_eq!(module.http_fields().collect::<Vec<_>>(), ["X-Remote-User"]);
        let Verifier::Peer(module) = module.verifier else { panic!("nothing is asked") };
        assert_eq!(module.check(&without, &Claim::anonymous()).unwrap_err().reason, Reason::PeerDenied);
    }

    #[test]
    fn the_field_from_anybody_but_the_proxy_is_refused() {
        let said = [("X-Remote-User", "alice")];
        let user = |uid| Peer::unix(Some(Credentials::new(uid, 0)));
        assert_eq!(check(&USER, user(0), &said), Ok(Some("alice".into())));
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(check(&USER, user(own), &said), Ok(Some("alice".into())));
        for stranger in [tcp("198.51.100.1:5"), tcp("127.0.0.1:5"), user(3_999_999_999), Peer::unix(None)] {
            let shown = stranger.to_string();
            assert_eq!(check(&USER, stranger, &said), Err(Reason::PeerDenied), "{shown}");
        }
        assert!(check(&[("user-header", "X-Remote-User")], tcp("127.0.0.1:5"), &said).is_err());
    }

    #[test]
    fn w08_the_whole_value_counts_and_names_nobody() {
        let proxy = || tcp("192.0.2.7:5");
        let usual = [("proxy", "192.0.2.7")];
        assert_eq!(check(&usual, proxy(), &[("x-forwarded-proto", "https")]), Ok(None));
        for other in ["http", "", "https ", "HTTPS", "https, http"] {
            assert!(check(&usual, proxy(), &[("X-Forwarded-Proto", other)]).is_err(), "{other:?}");
        }
        assert!(check(&usual, proxy(), &[]).is_err());
        let both = [
            ("user-header", "X-User"),
            ("property", "X-Key"),
            ("value", "sesame"),
            ("proxy", "::/0"),
            usual[0],
        ];
        let said = [("X-User", "alice"), ("X-Key", "sesame")];
        assert_eq!(check(&both, proxy(), &said), Ok(Some("alice".into())));
        assert!(check(&both, proxy(), &said[..1]).is_err() && check(&both, proxy(), &said[1..]).is_err());
    }

    #[test]
    fn s_065_what_cannot_be_a_field_is_a_start_error() {
        for wrong in [
            &[("user-header", "")][..],
            &[("user-header", "X Remote User")],
            &[("property", "X:")],
            &[("value", "")],
            &[("proxy", "somewhere")],
            &[("proxy-user", "no such user")],
        ] {
            assert!(link("http-header", wrong).is_err(), "{wrong:?}");
        }
    }
}
