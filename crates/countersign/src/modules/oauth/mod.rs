//! `oauth`: tokens of an issuer, judged here by its keys or there by itself.
//!
//! | file | holds |
//! |---|---|
//! | `keys.rs` | the issuer's keys, and their change |
//! | `token.rs` | what a token has to say |

mod keys;
mod token;

use std::{
    io::Read as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, Header, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
};
use serde_json::{Map, Value};

use self::{
    keys::Keys,
    token::{Rules, wrong},
};
use super::{Context, Module, OptionSpec, Options};
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Verifier,
    error::ConfigError,
    oauth::{Client, Credentials, Issuer, PATIENCE, Url, options},
    proto::{
        chain::{Answer, Ask, Exchange, OpenExchange, Verdict},
        challenge::Response,
        error::Reason,
        mechanism::OAUTH,
    },
    sys::{clock, files},
};

pub(super) struct OAuth;

impl Module for OAuth {
    fn name(&self) -> &'static str {
        "oauth"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["keycloak"]
    }

    fn summary(&self) -> &'static str {
        "lets in the holders of tokens that an issuer gave out (OAuth 2.0, OpenID Connect)"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "A client that has the handler oauth is asked for a token; one that sends the capability oauth.token in its \
         hello, as Xpra has it, is not asked. Either happens on a wire that others cannot read. A token that is asked \
         for has at most 16 KiB, one in a hello 4, and none reaches the daemon behind.\n\n\
         With issuer=URL a token is a JWT (RFC 9068, or an ID token) signed by a key of that issuer with RSA, ECDSA \
         or Ed25519; its algorithm never decides what kind of key it is checked with. Its issuer has to be that URL, \
         letter for letter (for Keycloak https://HOST/realms/REALM); one of its audiences one of audience=; its time \
         to have come and not be over, within clock-skew. The keys are fetched when a token is first seen and once an \
         hour, and at most once in 10 seconds for a token that names another key. A key that the issuer takes back \
         counts for up to an hour, and so does a token that it takes back until its end: where that is too long, use \
         introspection.\n\n\
         With introspection-url=URL every token is shown to the issuer, which says whether it is active (RFC 7662); \
         audience, scope and times are checked in its answer as far as they are written here or said there. The \
         gateway says who it is by client-id and client-secret-file.\n\n\
         The identity is the claim username-claim: sub, unless written otherwise, because issuers give that to one \
         user for good; names such as preferred_username or email may be given to somebody else later, or chosen by \
         the user. A token that is bound to a key counts where that is the certificate of the connection (RFC 8705), \
         else nowhere. Nobody is let in while the issuer cannot be reached and its keys are not known."
    }

    fn example(&self) -> &'static str {
        "oauth(issuer=https://id.example.com/realms/office, audience=front-door, username-claim=preferred_username)"
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let judge = Judge::configure(options)?;
        let capability =
            options.take("capability")?.map_or_else(|| CAPABILITY.to_owned(), |name| name.to_string());
        let capability = (!capability.is_empty()).then_some(capability).into_iter().collect();
        Ok(Verifier::Exchange(Box::new(Tokens { judge: Arc::new(judge), capability })))
    }
}

/// The configured link.
struct Tokens {
    judge: Arc<Judge>,
    /// The capability that may hold a token; at most one.
    capability: Vec<String>,
}

impl OpenExchange for Tokens {
    fn open(&self, peer: &Peer, claim: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        // S-33: whoever reads a token can use it.
        if !peer.confidential {
            let cause = "a token is the secret itself, and the wire is not encrypted";
            return Err(Refusal::new(Reason::NotConfidential, cause));
        }
        let said = self.capability.iter().find_map(|name| claim.capabilities.find(name));
        let said = said.map(|token| Secret::new(token.expose()));
        Ok(Box::new(Showing { judge: Arc::clone(&self.judge), peer: peer.clone(), said }))
    }

    fn takes(&self) -> &[String] {
        &self.capability
    }

    fn needs_cleartext(&self) -> bool {
        true
    }
}

/// The one round of a login: a token that came with the hello, or is asked for.
struct Showing {
    judge: Arc<Judge>,
    peer: Peer,
    said: Option<Secret>,
}

impl Exchange for Showing {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        let token = match (answer, self.said.take()) {
            (Some(answer), _) => answer.value,
            (None, Some(token)) => token,
            (None, None) => return Verdict::Ask(Ask::Token { mechanism: OAUTH.to_owned(), message: None }),
        };
        match self.judge.judge(&token, &self.peer) {
            Ok(identity) => Verdict::Pass(Some(identity)),
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }
}

/// Judges tokens.
struct Judge {
    authority: Authority,
    client: Client,
    rules: Rules,
    /// How long a judgement may take.
    timeout: Duration,
    /// How far clocks may differ.
    skew: Duration,
}

/// Who says that a token is genuine.
enum Authority {
    /// The keys of the issuer.
    Keys(Keys),
    /// The issuer itself, asked about each token as this client.
    Introspection { place: Url, issuer: Option<Url>, by: Option<Credentials> },
}

impl Judge {
    fn configure(options: &mut Options) -> Result<Self, ConfigError> {
        let client = options::client(options)?;
        let rules = Rules {
            audiences: options.take_all("audience").iter().map(|audience| audience.to_string()).collect(),
            scopes: options.take_all("scope").iter().flat_map(|scopes| words(scopes)).collect(),
            username_claim: options
                .take("username-claim")?
                .map_or_else(|| "sub".to_owned(), |name| name.to_string()),
        };
        if rules.audiences.iter().chain([&rules.username_claim]).any(String::is_empty) {
            return Err(options.error(
                "audience",
                "it or username-claim is empty",
                "write oauth(audience=NAME)",
            ));
        }
        let timeout = options.duration("timeout", PATIENCE)?;
        if timeout.is_zero() || timeout > MOST_PATIENCE {
            return Err(options.error("timeout", "a login waits for it", "write a time of up to 60 seconds"));
        }
        let skew = options.duration("clock-skew", Duration::from_secs(30))?;
        if skew > MOST_SKEW {
            return Err(options.error("clock-skew", "tokens would outlive their end", "write at most 5m"));
        }
        let authority = Authority::configure(options, &rules)?;
        Ok(Self { authority, client, rules, timeout, skew })
    }

    fn judge(&self, token: &Secret, peer: &Peer) -> Result<Identity, Refusal> {
        let deadline = Instant::now() + self.timeout;
        let bytes = token.expose();
        // RFC 6750 section 2.1: visible characters, and not many kinds of them.
        if bytes.is_empty()
            || bytes.len() > Response::MAX_TOKEN_BYTES
            || !bytes.iter().all(u8::is_ascii_graphic)
        {
            return Err(wrong("what came is no token"));
        }
        let claims = match &self.authority {
            Authority::Keys(keys) => self.verify(keys, bytes, deadline)?,
            Authority::Introspection { place, issuer, by } => {
                let answer = self.introspect(place, by.as_ref(), bytes, deadline)?;
                self.is_active(&answer, issuer.as_ref())?;
                answer
            }
        };
        self.rules.identify(&claims, peer)
    }

    /// The claims of a JWT that the issuer signed and that holds now.
    fn verify(&self, keys: &Keys, token: &[u8], deadline: Instant) -> Result<Map<String, Value>, Refusal> {
        let header = decode_header(token)
            .map_err(|_| wrong("what came is no signed JWT, or its algorithm is not known"))?;
        check_header(&header)?;
        let found = keys.find(header.kid.as_deref(), header.alg, &self.client, deadline)?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = self.skew.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[keys.issuer()]);
        validation.set_audience(&self.rules.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let mut refusal = wrong("the token's signature is wrong");
        for key in found {
            match decode::<Map<String, Value>>(token, &key, &validation) {
                Ok(token) => return self.holds_now(&token.claims).map(|()| token.claims),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(error) => refusal = wrong(why(&error)),
            }
        }
        Err(refusal)
    }

    fn introspect(
        &self,
        place: &Url,
        by: Option<&Credentials>,
        token: &[u8],
        deadline: Instant,
    ) -> Result<Map<String, Value>, Refusal> {
        let form = [("token", token), ("token_type_hint", b"access_token")];
        let answer = self.client.post(place, &form, by, deadline);
        let answer = answer.and_then(|answer| answer.expect_success(place)?.json(place));
        answer.map_err(|fault| Refusal::module_failed(format!("the issuer cannot be asked: {fault}")))
    }

    /// Whether an issuer's answer says yes, for itself and for now.
    fn is_active(&self, answer: &Map<String, Value>, issuer: Option<&Url>) -> Result<(), Refusal> {
        if answer.get("active") != Some(&Value::Bool(true)) {
            return Err(wrong("the issuer says that the token is not active"));
        }
        let said = answer.get("iss");
        if issuer.zip(said).is_some_and(|(issuer, said)| said.as_str() != Some(issuer.text())) {
            return Err(wrong("the token is another issuer's"));
        }
        self.holds_now(answer)
    }

    /// Whether the times of a token say that it is good now.
    fn holds_now(&self, answer: &Map<String, Value>) -> Result<(), Refusal> {
        let time = |name: &str| match answer.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(time) => time.as_f64().map(Some).ok_or_else(|| wrong("a time in the answer is no number")),
        };
        let (now, skew) = (clock::since_1970().as_secs_f64(), self.skew.as_secs_f64());
        if time("exp")?.is_some_and(|end| end + skew <= now) {
            return Err(wrong("the token has expired"));
        }
        if time("nbf")?.is_some_and(|start| start > now + skew) {
            return Err(wrong("the token does not hold yet"));
        }
        Ok(())
    }
}

impl Authority {
    fn configure(options: &mut Options, rules: &Rules) -> Result<Self, ConfigError> {
        let issuer = options::url(options, "issuer")?;
        let jwks = options::url(options, "jwks-url")?;
        let introspection = options::url(options, "introspection-url")?;
        let by = credentials(options)?;
        let Some(place) = introspection else {
            let Some(issuer) = issuer else {
                return Err(options.error(
                    "issuer",
                    "it is required and missing",
                    "write oauth(issuer=https://HOST)",
                ));
            };
            if rules.audiences.is_empty() {
                let why = "it is missing, and tokens for any other service would do";
                return Err(options.error(
                    "audience",
                    why,
                    "write the audience that the issuer puts into tokens",
                ));
            }
            if by.is_some() {
                let why = "nobody is told it without introspection-url";
                return Err(options.error("client-id", why, "leave it out, or write introspection-url=URL"));
            }
            return Ok(Self::Keys(Keys::of(Issuer::new(issuer), jwks)));
        };
        if jwks.is_some() {
            let why = "with introspection-url no key is looked at";
            return Err(options.error("jwks-url", why, "leave one of the two out"));
        }
        Ok(Self::Introspection { place, issuer, by })
    }
}

/// `client-id` and `client-secret-file`.
fn credentials(options: &mut Options) -> Result<Option<Credentials>, ConfigError> {
    let id = options.take("client-id")?.map(|id| id.to_string());
    let file = options.take("client-secret-file")?;
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return match file {
            Some(_) => {
                Err(options.error("client-id", "it is missing beside the secret", "write client-id=NAME"))
            }
            None => Ok(None),
        };
    };
    let secret = file.map(|file| secret_of(Path::new(&**file))).transpose()?;
    Ok(Some(Credentials { id, secret }))
}

/// A secret in a file, without a newline at its end.
fn secret_of(path: &Path) -> Result<Secret, ConfigError> {
    let what = || format!("secret file {}", path.display());
    let file = files::open_private(path, false)
        .map_err(|fault| ConfigError::new(what(), fault.why(), fault.fix()))?;
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(MOST_SECRET + 1));
    let read = file.take(MOST_SECRET as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| ConfigError::new(what(), error.to_string(), "name a readable file"))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.is_empty() || bytes.len() > MOST_SECRET {
        return Err(ConfigError::new(what(), "it is empty or larger than 4 KiB", "write the secret into it"));
    }
    Ok(Secret::new(std::mem::take(&mut *bytes)))
}

/// What is judged before a key is looked for.
fn check_header(header: &Header) -> Result<(), Refusal> {
    if !ALGORITHMS.contains(&header.alg) {
        return Err(wrong("the token is signed with an algorithm that is not for issuers"));
    }
    // RFC 7515 section 4.1.11: what must be understood and is not.
    if header.crit.is_some() {
        return Err(wrong("the token has extensions that are not known here"));
    }
    // RFC 8725 section 3.11: a logout or a proof of possession is no token to come in by.
    let kind = header.typ.as_deref().map(str::to_ascii_lowercase);
    match kind.as_deref().map(|kind| kind.strip_prefix("application/").unwrap_or(kind)) {
        None | Some("jwt" | "at+jwt") => Ok(()),
        Some(_) => Err(wrong("the token is of another kind")),
    }
}

fn why(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token does not hold yet",
        ErrorKind::InvalidIssuer => "the token is another issuer's",
        ErrorKind::InvalidAudience => "the token is meant for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks its issuer, audience or end",
        ErrorKind::InvalidClaimFormat(_) => "a time in the token is no number",
        _ => "the token cannot be read",
    }
}

fn words(text: &str) -> impl Iterator<Item = String> + use<> {
    text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Signatures that need the issuer's private key. Neither `none` nor a shared secret is among them.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The capability that Xpra's module looks at.
const CAPABILITY: &str = "oauth.token";

const MOST_PATIENCE: Duration = Duration::from_secs(60);
const MOST_SKEW: Duration = Duration::from_secs(300);
const MOST_SECRET: usize = 4096;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("issuer", "URL", "", "who gives the tokens out, as they name it"),
    OptionSpec::new("audience", "NAME", "", "whom a token has to be meant for; may be repeated"),
    OptionSpec::new("scope", "NAME", "", "what a token has to grant; several by blanks, or repeated"),
    OptionSpec::new("username-claim", "NAME", "sub", "the claim that says who it is"),
    OptionSpec::new("jwks-url", "URL", "as the issuer says", "where the issuer's keys are"),
    OptionSpec::new(
        "introspection-url",
        "URL",
        "",
        "where each token is asked about, in place of looking at keys",
    ),
    OptionSpec::new("client-id", "NAME", "", "who the gateway is where it asks about tokens"),
    OptionSpec::new("client-secret-file", "FILE", "", "the secret that goes with it"),
    OptionSpec::new("ca", "FILE", "the system's", "the authorities that the issuer's servers are known by"),
    OptionSpec::new("timeout", "TIME", "5s", "how long asking the issuer may take"),
    OptionSpec::new("clock-skew", "TIME", "30s", "how far the issuer's clock may differ from ours"),
    OptionSpec::new(
        "capability",
        "NAME",
        CAPABILITY,
        "the capability of a hello that may hold a token; empty: none",
    ),
];

#[cfg(test)]
mod tests;
