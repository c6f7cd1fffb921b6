//! `oauth`: a token of an issuer, kept from before, renewed, or had from a person by the device flow
//! (RFC 8628).

mod cache;

use std::{
    io::IsTerminal as _,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use self::cache::{Cache, Hidden, Kept};
use super::{Handler, Sources};
use crate::{
    Secret,
    error::ConfigError,
    oauth::{Client, Credentials, Fault, Issuer, Metadata, PATIENCE, Url, options},
    options::{OptionSpec, Options},
    proto::{
        challenge::{Challenge, Response},
        client::{Exchange, Failure, FailureKind, Means, OpenExchange, Question, Responder, quotable},
        mechanism::OAUTH,
    },
};

pub(super) struct OAuth;

impl Handler for OAuth {
    fn name(&self) -> &'static str {
        "oauth"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["keycloak"]
    }

    fn summary(&self) -> &'static str {
        "a token of an issuer (OAuth 2.0, OpenID Connect), by the device flow"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "It answers servers that ask for a token, on an encrypted connection and only where the server is verified: \
         whoever has a token can use it until its end. The first time, an address and a code are shown on the \
         terminal; whoever opens the address in any browser, logs in there and confirms the code gives this client \
         its token. The server waits two minutes; if that was too short, the token is kept for the next try. It is \
         kept, with what renews it, in a file for you alone, until its end: in a service, where nobody can confirm a \
         code, such a file has to be there. Without issuer and client-id it answers nothing; a server never chooses \
         them. Ask for the audience and scope of one service, so that the token is worth nothing elsewhere."
    }

    fn example(&self) -> &'static str {
        "oauth(issuer=https://id.example.com/realms/office, client-id=front-door)"
    }

    fn configure(&self, options: &mut Options, _: &mut Sources) -> Result<Option<Responder>, ConfigError> {
        let issuer = options::url(options, "issuer")?;
        let id = options.take("client-id")?;
        let scope = options.take("scope")?.map_or_else(|| "openid".to_owned(), |scope| scope.to_string());
        let audience = options.take("audience")?.map(|audience| audience.to_string());
        let client = options::client(options)?;
        let path = options.take("cache")?;
        let (issuer, id) = match (issuer, id) {
            (Some(issuer), Some(id)) if !id.is_empty() => (issuer, id.to_string()),
            (None, None) => return Ok(None),
            (Some(_), _) => {
                return Err(options.error("client-id", "it is required and missing", "write client-id=NAME"));
            }
            (None, Some(_)) => {
                return Err(options.error(
                    "issuer",
                    "it is required and missing",
                    "write issuer=https://HOST",
                ));
            }
        };
        let cache = match path {
            Some(path) => Cache::at(&**path),
            None => Cache::of_user(&[issuer.text(), &id, &scope, audience.as_deref().unwrap_or_default()]),
        };
        let by = Credentials { id, secret: None };
        let tokens = Tokens { issuer: Issuer::new(issuer), client, by, scope, audience, cache };
        Ok(Some(Responder::new("oauth", Means::Exchange(Box::new(tokens)))))
    }
}

/// Where a token comes from.
struct Tokens {
    issuer: Issuer,
    client: Client,
    by: Credentials,
    scope: String,
    audience: Option<String>,
    cache: Cache,
}

impl OpenExchange for Tokens {
    fn mechanisms(&self) -> &[&'static str] {
        &[OAUTH]
    }

    fn open(&self, question: &Question<'_>) -> Result<Option<Box<dyn Exchange>>, Failure> {
        // S-33, W34: whoever gets the token can be us, so it goes to nobody who may be somebody else.
        if !question.server.confidential {
            let cause = "the server asks for a token, and the connection is not encrypted";
            return Err(Failure::new(FailureKind::Forbidden, cause).with_fix("use tls://"));
        }
        if !question.server.verified {
            let cause = "the server asks for a token, and nobody vouches that it is the right server";
            return Err(Failure::new(FailureKind::Forbidden, cause)
                .with_fix("name its authority with --ca, or its key with --pin"));
        }
        Ok(Some(Box::new(Bearer(Some(self.token()?)))))
    }
}

/// A token that answers once.
struct Bearer(Option<Secret>);

impl Exchange for Bearer {
    fn step(&mut self, _: &Challenge, _: &Question<'_>) -> Result<Option<Response>, Failure> {
        Ok(self.0.take().map(|token| Response::new(token, Vec::new())))
    }
}

impl Tokens {
    /// A token that holds: as it was kept, or renewed, or new.
    fn token(&self) -> Result<Secret, Failure> {
        let kept = self.cache.read()?;
        if let Some(kept) = &kept
            && kept.expires > now() + MARGIN
        {
            return fitting(&kept.access_token);
        }
        let metadata = self.issuer.metadata(&self.client, deadline()).map_err(unreachable)?;
        let renewed = match kept.and_then(|kept| kept.refresh_token) {
            Some(refresh) => self.renew(&metadata, &refresh)?,
            None => None,
        };
        let granted = match renewed {
            Some(granted) => granted,
            None => self.ask(&metadata)?,
        };
        let token = fitting(&granted.access_token)?;
        self.cache.write(&Kept {
            access_token: granted.access_token,
            refresh_token: granted.refresh_token,
            expires: now() + granted.expires_in.unwrap_or(DEFAULT_LIFE),
        });
        Ok(token)
    }

    /// `None` where the issuer takes the old token no more: then a person has to be asked.
    fn renew(&self, metadata: &Metadata, refresh: &Hidden) -> Result<Option<Granted>, Failure> {
        let place = self.endpoint(metadata.token_endpoint.as_deref(), "token")?;
        let form = [("grant_type", &b"refresh_token"[..]), ("refresh_token", refresh.0.expose())];
        let answer = self.client.post(&place, &form, Some(&self.by), deadline()).map_err(unreachable)?;
        if answer.status != 200 {
            return Ok(None);
        }
        let mut granted: Granted = answer.json(&place).map_err(unreachable)?;
        // RFC 6749 section 6: without a new one the old one goes on.
        if granted.refresh_token.is_none() {
            granted.refresh_token = Some(Hidden(Secret::new(refresh.0.expose())));
        }
        Ok(Some(granted))
    }

    /// Shows a person where to confirm what, and waits for that.
    fn ask(&self, metadata: &Metadata) -> Result<Granted, Failure> {
        if !std::io::stderr().is_terminal() {
            let cause = "the server asks for a token, none is kept, and there is no terminal to ask for one";
            return Err(Failure::unusable(
                cause,
                "run `countersign info` with the same handler on a terminal",
            ));
        }
        let place =
            self.endpoint(metadata.device_authorization_endpoint.as_deref(), "device authorization")?;
        let mut form = vec![("scope", self.scope.as_bytes())];
        form.extend(self.audience.as_ref().map(|audience| ("audience", audience.as_bytes())));
        let answer = self.client.post(&place, &form, Some(&self.by), deadline()).map_err(unreachable)?;
        let answer = answer.expect_success(&place).map_err(unreachable)?;
        let begun: Begun = answer.json(&place).map_err(unreachable)?;
        eprintln!("{}", begun.shown(&place)?);
        self.wait(&self.endpoint(metadata.token_endpoint.as_deref(), "token")?, &begun)
    }

    /// RFC 8628 section 3.5.
    fn wait(&self, place: &Url, begun: &Begun) -> Result<Granted, Failure> {
        let end = Instant::now() + Duration::from_secs(begun.expires_in).min(MOST_WAIT);
        let mut pause = Duration::from_secs(begun.interval.unwrap_or(5).clamp(1, 60));
        let form = [("grant_type", DEVICE_CODE.as_bytes()), ("device_code", begun.device_code.0.expose())];
        while Instant::now() + pause < end {
            thread::sleep(pause);
            let answer = self.client.post(place, &form, Some(&self.by), deadline()).map_err(unreachable)?;
            if answer.status == 200 {
                return answer.json(place).map_err(unreachable);
            }
            let refused: Refused = answer.json(place).map_err(unreachable)?;
            match refused.error.as_str() {
                "authorization_pending" => {}
                "slow_down" => pause += Duration::from_secs(5),
                "access_denied" => {
                    return Err(Failure::new(FailureKind::Refused, "the code was not confirmed"));
                }
                other => {
                    let cause = format!("the issuer gives no token: \"{}\"", quotable(other));
                    return Err(Failure::new(FailureKind::Refused, cause));
                }
            }
        }
        Err(Failure::unusable("the code was not confirmed in time", "try again"))
    }

    fn endpoint(&self, said: Option<&str>, what: &str) -> Result<Url, Failure> {
        let found = said.ok_or("it is not said").and_then(Url::parse);
        found.map_err(|why| unreachable(Fault::new(self.issuer.url(), format!("its {what} endpoint: {why}"))))
    }
}

/// An answer that begins the device flow (RFC 8628 section 3.2).
#[derive(Deserialize)]
struct Begun {
    device_code: Hidden,
    user_code: String,
    verification_uri: String,
    expires_in: u64,
    interval: Option<u64>,
}

impl Begun {
    /// What a person reads. Only an address that is one is shown, and the issuer's words cannot leave
    /// their quotation marks (S-46).
    fn shown(&self, place: &Url) -> Result<String, Failure> {
        let address = Url::parse(&self.verification_uri)
            .map_err(|why| unreachable(Fault::new(place, format!("the address to open: {why}"))))?;
        let (address, code) = (quotable(address.text()), quotable(&self.user_code));
        Ok(format!("To log in, open {address}\nin a browser and confirm the code \"{code}\""))
    }
}

/// A token (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: Hidden,
    refresh_token: Option<Hidden>,
    expires_in: Option<u64>,
}

/// No token (RFC 6749 section 5.2).
#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// A copy of a token that a server can read.
fn fitting(token: &Hidden) -> Result<Secret, Failure> {
    let token = token.0.expose();
    if token.is_empty() || token.len() > Response::MAX_TOKEN_BYTES {
        let cause = "the issuer's token is empty, or longer than the 16 KiB that a server reads";
        return Err(Failure::unusable(cause, "have the issuer put less into it"));
    }
    Ok(Secret::new(token))
}

fn unreachable(fault: Fault) -> Failure {
    Failure::unusable(format!("no token: {fault}"), "check issuer=, and that it can be reached")
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Seconds before its end from which on a token is renewed.
const MARGIN: u64 = 30;

/// Seconds that a token of unknown life is used for.
const DEFAULT_LIFE: u64 = 300;

/// The longest time that a person is waited for.
const MOST_WAIT: Duration = Duration::from_secs(600);

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("issuer", "URL", "", "who gives the tokens out"),
    OptionSpec::new("client-id", "NAME", "", "what the issuer calls this client"),
    OptionSpec::new("scope", "NAME", "openid", "what is asked for; several by blanks"),
    OptionSpec::new(
        "audience",
        "NAME",
        "",
        "the service that the token is for, where the issuer wants to be told",
    ),
    OptionSpec::new("ca", "FILE", "the system's", "the authorities that the issuer's servers are known by"),
    OptionSpec::new("cache", "FILE", "in $XDG_STATE_HOME/countersign/tokens", "where the token is kept"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{client::Server, mechanism::Mechanism};

    fn responder(cache: &std::path::Path) -> Responder {
        let entries = [
            ("issuer", "https://id.example/realm"),
            ("client-id", "gate"),
            ("cache", cache.to_str().unwrap()),
        ];
        let entries = entries.map(|(key, value)| (key.to_owned(), value.to_owned()));
        OAuth.configure(&mut Options::new("oauth", entries), &mut Sources::nowhere()).unwrap().unwrap()
    }

    fn answer(responder: &Responder, server: &Server) -> Result<Secret, Failure> {
        let Means::Exchange(tokens) = &responder.means else { panic!("it has a mechanism of its own") };
        let mechanism = Mechanism::Other(OAUTH.to_owned());
        let challenge = Challenge::new(vec![7; 64], mechanism, "hmac+sha512", "password");
        let question = Question::new(server, None, &challenge);
        let mut exchange = tokens.open(&question)?.unwrap();
        let response = exchange.step(&challenge, &question)?.unwrap();
        assert!(exchange.step(&challenge, &question)?.is_none(), "once");
        Ok(response.value)
    }

    #[test]
    fn s_033_a_token_goes_to_a_verified_server_on_an_encrypted_wire_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let kept =
            Kept { access_token: Hidden(Secret::new("kept")), refresh_token: None, expires: now() + 3600 };
        Cache::at(&path).write(&kept);
        let responder = responder(&path);
        assert!(answer(&responder, &Server::new("tls://gate", true, true)).unwrap().matches(b"kept"));
        for (confidential, verified) in [(true, false), (false, true), (false, false)] {
            let failure = answer(&responder, &Server::new("tcp://gate", confidential, verified)).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Forbidden);
        }
    }

    #[test]
    fn a_client_is_named_whole_or_not_at_all_and_an_issuer_is_never_in_the_clear() {
        let configured = |entries: &[(&str, &str)]| {
            let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            OAuth
                .configure(&mut Options::new("oauth", entries), &mut Sources::nowhere())
                .map(|made| made.is_some())
        };
        let https = ("issuer", "https://id.example");
        assert!(!configured(&[]).unwrap());
        assert!(configured(&[https, ("client-id", "gate")]).unwrap());
        for wrong in [
            &[https][..],
            &[("client-id", "gate")],
            &[https, ("client-id", "")],
            &[("issuer", "http://id.example"), ("client-id", "gate")],
            &[https, ("client-id", "gate"), ("ca", "/nonexistent")],
        ] {
            assert!(configured(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn s_046_the_issuers_words_stay_in_their_place() {
        let begun = |uri: &str| Begun {
            device_code: Hidden(Secret::new("x")),
            user_code: "AB\"\nPassword: \u{1b}[2J".to_owned(),
            verification_uri: uri.to_owned(),
            expires_in: 60,
            interval: None,
        };
        let place = Url::parse("https://id.example/device").unwrap();
        let shown = begun("https://id.example/go").shown(&place).unwrap();
        assert_eq!(
            shown,
            "To log in, open https://id.example/go\nin a browser and confirm the code \"AB Password: [2J\""
        );
        for odd in ["javascript:alert(1)", "http://id.example/go", "https://id.example/\u{1b}[2J", ""] {
            assert!(begun(odd).shown(&place).is_err(), "{odd:?}");
        }
    }
}
