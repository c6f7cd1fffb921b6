//! `kerberos` and `gss`: a ticket of whoever runs the client, for the server's own service.
//!
//! One handler by two names, as the modules are (`modules/kerberos/ticket.rs`).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Handler, Sources};
use crate::{
    Secret,
    error::ConfigError,
    options::{OptionSpec, Options},
    proto::{
        challenge::{Challenge, Response},
        client::{
            Exchange, Failure, FailureKind, Means, OpenExchange, Question, Responder, Server, quotable,
        },
        mechanism::{
            Hash, hmac,
            ticket::{self, SATISFIED, Service, Ticket},
            xor,
        },
    },
    sys::{
        detached::Detached,
        gssapi::{Gssapi, Initiator, Step},
    },
};

pub(super) struct Kerberos;

impl Handler for Kerberos {
    fn name(&self) -> &'static str {
        "kerberos"
    }

    fn summary(&self) -> &'static str {
        "a Kerberos ticket, for servers that ask for kerberos:SERVICE"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The same as gss, for servers whose module is kerberos-ticket (Xpra: kerberos-token). See gss."
    }

    fn example(&self) -> &'static str {
        "kerberos(service=xpra/gate.example.org)"
    }

    fn configure(&self, options: &mut Options, _: &mut Sources) -> Result<Option<Responder>, ConfigError> {
        configure(Ticket::Kerberos, options)
    }
}

pub(super) struct Gss;

impl Handler for Gss {
    fn name(&self) -> &'static str {
        "gss"
    }

    fn summary(&self) -> &'static str {
        "a Kerberos ticket by GSSAPI, for servers that ask for gss:SERVICE"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "It answers with a ticket for the service that the server names, from the tickets that kinit got, over TLS, \
         SSH or a local socket only. A ticket for another server would let that server log in there, so it is given \
         for the services countersign and xpra of the host in the address, unless service says which others; \
         service=* gives one for any. On a local socket the host is this machine, or localhost.\n\n\
         Where TLS 1.3 is spoken, the ticket is good for that connection only. A gateway of ours has to prove that it \
         has the key of the service, or it is left. Xpra's servers cannot do that: they are given a ticket where the \
         certificate or the socket's owner has verified them, with mutual=always nowhere, with mutual=never \
         everywhere.\n\n\
         Needs libgssapi_krb5.so.2 (Debian: libgssapi-krb5-2), which reads KRB5CCNAME and KRB5_CONFIG."
    }

    fn example(&self) -> &'static str {
        "gss(service=countersign, service=host/gate.example.org, mutual=always)"
    }

    fn configure(&self, options: &mut Options, _: &mut Sources) -> Result<Option<Responder>, ConfigError> {
        configure(Ticket::Gss, options)
    }
}

fn configure(ticket: Ticket, options: &mut Options) -> Result<Option<Responder>, ConfigError> {
    let mutual = match options.take("mutual")?.as_ref().map(|mutual| mutual.as_str()) {
        None | Some("unverified") => Mutual::Unverified,
        Some("always") => Mutual::Always,
        Some("never") => Mutual::Never,
        Some(_) => {
            let fix = "write mutual=unverified, mutual=always or mutual=never";
            return Err(options.error("mutual", "there is no such policy", fix));
        }
    };
    let mut services = Vec::new();
    for given in options.take_all("service") {
        let wanted = Wanted::parse(&given).ok_or_else(|| {
            options.error("service", "it is no service", "write service=NAME, service=NAME/HOST or service=*")
        })?;
        services.push(wanted);
    }
    if services.is_empty() {
        services.extend(OWN.map(|name| Wanted::Name(name.to_owned())));
    }
    let tickets = Tickets { ticket, names: [ticket.name()], services, mutual };
    Ok(Some(Responder::new(ticket.name(), Means::Exchange(Box::new(tickets)))))
}

/// The tickets of whoever runs this, for services that they may be given to.
struct Tickets {
    ticket: Ticket,
    names: [&'static str; 1],
    services: Vec<Wanted>,
    mutual: Mutual,
}

/// Which servers of Xpra's, that cannot prove themselves, are given a ticket. Ours always have to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutual {
    /// Those that something else has verified.
    Unverified,
    /// None.
    Always,
    /// All.
    Never,
}

impl Mutual {
    fn demands_proof_of(self, server: &Server) -> bool {
        match self {
            Self::Unverified => !server.verified,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Services that are given a ticket.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// All.
    Any,
    /// Those of that name on the server's own host.
    Name(String),
    /// This one.
    Exactly(Service),
}

impl Wanted {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Self::Any),
            _ if text.contains(['/', '@']) => Service::parse(text).ok().map(Self::Exactly),
            // Any host makes a service of a good name.
            name => Service::parse(&format!("{name}/h")).ok().map(|_| Self::Name(name.to_owned())),
        }
    }

    fn fits(&self, service: &Service, address: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(name) => name == service.name() && is_host_of(address, service.host()),
            Self::Exactly(one) => one == service,
        }
    }
}

impl OpenExchange for Tickets {
    fn mechanisms(&self) -> &[&'static str] {
        &self.names
    }

    fn open(&self, question: &Question<'_>) -> Result<Option<Box<dyn Exchange>>, Failure> {
        let forbidden = |cause: String| Failure::new(FailureKind::Forbidden, cause);
        let server = question.server;
        let asked = quotable(question.mechanism.name());
        let service = self
            .ticket
            .service(question.mechanism)
            .map_err(|why| forbidden(format!("the server asks for \"{asked}\": {why}")))?;
        if !server.confidential {
            // Rule 6 of chains: whoever reads it could use it first.
            let cause = "the server asks for a ticket, and the connection is not encrypted";
            return Err(forbidden(cause.to_owned())
                .with_fix("use an encrypted address (tls://, wss://) or the server's Unix socket"));
        }
        if !self.services.iter().any(|wanted| wanted.fits(&service, &server.address)) {
            let cause =
                format!("the server asks for a ticket for \"{service}\", which is not a service of its own");
            let name = self.ticket.name();
            return Err(forbidden(cause)
                .with_fix(format!("if it is right: --challenge-handlers=\"{name}(service={service})\"")));
        }
        if self.mutual.demands_proof_of(server) && !question.countersign {
            let cause =
                "nothing proves that this is the right server, and it cannot show its key of the service";
            let fix = format!(
                "verify it in another way, or take it: --challenge-handlers=\"{}(mutual=never)\"",
                self.ticket.name()
            );
            return Err(forbidden(cause.to_owned()).with_fix(fix));
        }
        let library =
            Gssapi::load().map_err(|error| Failure::unusable(error.to_string(), error.fix().to_owned()))?;
        let binding = server.channel_binding.as_deref().map(ticket::binding);
        let initiator = library
            .initiator(service.name(), service.host(), binding.as_deref())
            .map_err(|error| no_ticket(&service, &error))?;
        Ok(Some(Box::new(Rounds {
            ticket: self.ticket,
            service,
            initiator: Some(initiator),
            is_owed: false,
        })))
    }
}

/// The rounds with one server.
struct Rounds {
    ticket: Ticket,
    service: Service,
    /// `None` when all is said.
    initiator: Option<Initiator>,
    is_owed: bool,
}

impl Exchange for Rounds {
    fn step(&mut self, challenge: &Challenge, question: &Question<'_>) -> Result<Option<Response>, Failure> {
        let Some(initiator) = self.initiator.take() else { return Ok(None) };
        if self.is_owed {
            let reply = self.decoded(&challenge.salt)?;
            return match self.call(initiator, Some(reply)).map_err(|error| unproved(&self.service, &error))? {
                (_, Step::Proved) => {
                    self.is_owed = false;
                    Ok(Some(Response::new(Secret::new(SATISFIED), Vec::new())))
                }
                (_, Step::Send(_)) => Err(misbehaved("it wants more rounds than Kerberos has")),
            };
        }
        match self.call(initiator, None).map_err(|error| no_ticket(&self.service, &error))? {
            (initiator, Step::Send(token)) => {
                let token = Secret::new(self.encoded(token));
                if token.expose().len() > Response::MAX_TOKEN_BYTES {
                    let cause = "the ticket is longer than the 16 KiB that a server reads";
                    return Err(Failure::unusable(cause, "log in by a password here"));
                }
                if !question.countersign {
                    return masked(&token, challenge, question).map(Some);
                }
                (self.is_owed, self.initiator) = (true, Some(initiator));
                Ok(Some(Response::new(token, Vec::new())))
            }
            (_, Step::Proved) => Err(misbehaved("nothing was asked of it")),
        }
    }

    fn is_owed(&self) -> bool {
        self.is_owed
    }
}

impl Rounds {
    /// A call that may wait for the KDC, with an end.
    fn call(&self, mut initiator: Initiator, reply: Option<Vec<u8>>) -> Result<(Initiator, Step), String> {
        let done = Detached::new(1).run(PATIENCE, move || {
            let step = initiator.step(reply.as_deref());
            (initiator, step)
        });
        let (initiator, step) = done.map_err(|lost| lost.to_string())?;
        step.map(|step| (initiator, step)).map_err(|error| error.to_string())
    }

    fn encoded(&self, token: Vec<u8>) -> Vec<u8> {
        match self.ticket {
            Ticket::Gss => token,
            Ticket::Kerberos => STANDARD.encode(token).into_bytes(),
        }
    }

    fn decoded(&self, token: &[u8]) -> Result<Vec<u8>, Failure> {
        match self.ticket {
            Ticket::Gss => Ok(token.to_vec()),
            Ticket::Kerberos => STANDARD.decode(token).map_err(|_| misbehaved("its token is not base64")),
        }
    }
}

/// The token as Xpra's servers read it, behind the mask of the salts.
fn masked(token: &Secret, challenge: &Challenge, question: &Question<'_>) -> Result<Response, Failure> {
    let hash = Hash::strongest_in(std::slice::from_ref(&challenge.salt_digest)).ok_or_else(|| {
        let cause = "the server combines the salts in a way that no client should take";
        Failure::new(FailureKind::Forbidden, cause).with_fix("bring the server up to date")
    })?;
    let client_salt = question.nonce.to_vec();
    let combined = hmac::combine_salts(hash, &client_salt, &challenge.salt);
    Ok(Response::new(xor::mask(token, &combined), client_salt))
}

/// Whether the address of a server (`tls://HOST:PORT`, `unix:/PATH`) names this host.
fn is_host_of(address: &str, host: &str) -> bool {
    match address.split_once(':') {
        Some((scheme, _)) if scheme.ends_with("unix") => is_this_machine(host),
        Some((_, place)) => {
            let authority = place.trim_start_matches('/');
            let named = authority.rsplit_once(':').map_or(authority, |(named, _)| named);
            named.eq_ignore_ascii_case(host)
        }
        None => false,
    }
}

fn is_this_machine(host: &str) -> bool {
    let own = nix::unistd::gethostname().unwrap_or_default();
    let own = own.to_string_lossy();
    let is_own = |own: &str| !own.is_empty() && own.eq_ignore_ascii_case(host);
    let without_domain = host.split('.').next().unwrap_or_default();
    host.eq_ignore_ascii_case("localhost") || is_own(&own) || own.eq_ignore_ascii_case(without_domain)
}

fn no_ticket(service: &Service, error: &impl ToString) -> Failure {
    let cause = format!("there is no Kerberos ticket for {service}: {}", quotable(&error.to_string()));
    Failure::unusable(cause, "get tickets with kinit, and look at them with klist")
}

fn unproved(service: &Service, error: &str) -> Failure {
    let cause = format!("the server does not prove that it is {service}: {}", quotable(error));
    Failure::new(FailureKind::Misbehaved, cause)
        .with_fix("check the address: this may not be the server it says")
}

fn misbehaved(why: &str) -> Failure {
    Failure::new(FailureKind::Misbehaved, format!("the server broke the protocol: {why}"))
}

/// The services that are given a ticket on the server's own host. Not `host`, which other programs of that
/// machine take a ticket for as well.
const OWN: [&str; 2] = ["countersign", "xpra"];

/// For a KDC; servers wait longer.
const PATIENCE: Duration = Duration::from_secs(30);

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "service",
        "NAME[/HOST]|*",
        "countersign, xpra",
        "a service that is given a ticket, on the server's own host or on another; may be repeated",
    ),
    OptionSpec::new(
        "mutual",
        "unverified|always|never",
        "unverified",
        "which of Xpra's servers, that cannot prove themselves, are refused",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mechanism::Mechanism;

    fn tickets(options: &[(&str, &str)]) -> Result<Box<dyn OpenExchange>, ConfigError> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let made = Gss.configure(&mut Options::new("gss", options), &mut Sources::nowhere())?;
        match made.unwrap().means {
            Means::Exchange(tickets) => Ok(tickets),
            other => panic!("{other:?}"),
        }
    }

    /// How a server at `address` that asks `mechanism` is met.
    fn opened(options: &[(&str, &str)], server: &Server, mechanism: &str) -> Result<bool, Failure> {
        let mechanism = Mechanism::Other(mechanism.to_owned());
        let challenge = Challenge::new(vec![7; 64], mechanism, "hmac+sha512", "password");
        let question = Question::new(server, None, &challenge).of_countersign(true);
        tickets(options).unwrap().open(&question).map(|rounds| rounds.is_some())
    }

    fn server(address: &str) -> Server {
        Server::new(address, true, true)
    }

    #[test]
    fn s_033_a_ticket_leaves_on_a_confidential_wire_only() {
        let open = Server::new("tcp://gate.example:1", false, false);
        for service in ["gss:countersign/gate.example", "gss:xpra@gate.example"] {
            let failure = opened(&[], &open, service).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Forbidden);
            assert!(failure.fix.unwrap().contains("tls://"));
        }
        assert!(opened(&[], &server("tls://gate.example:1"), "gss:countersign/gate.example").unwrap());
    }

    #[test]
    fn w34_a_server_is_given_a_ticket_for_itself_only() {
        let at_gate = |options: &[(&str, &str)], service: &str| {
            opened(options, &server("tls://Gate.example:443"), &format!("gss:{service}")).is_ok()
        };
        for own in ["countersign/gate.example", "xpra@gate.example"] {
            assert!(at_gate(&[], own), "{own}");
        }
        for other in [
            "countersign/other.example",
            "countersign/gate.example.org",
            "countersign/localhost",
            "host/gate.example",
            "HTTP/gate.example",
            "countersign",
            "",
            "countersign/gate.example@REALM",
        ] {
            assert!(!at_gate(&[], other), "{other}");
        }
        let named = [("service", "ldap"), ("service", "HTTP/www.example")];
        assert!(at_gate(&named, "ldap/gate.example") && at_gate(&named, "HTTP/www.example"));
        assert!(!at_gate(&named, "HTTP/gate.example") && !at_gate(&named, "countersign/gate.example"));
        assert!(at_gate(&[("service", "*")], "anything/anywhere"));
    }

    #[test]
    fn a_local_socket_is_of_this_machine() {
        let own = nix::unistd::gethostname().unwrap().into_string().unwrap();
        for address in ["unix:/run/gate.sock", "unix:@gate", "tls+unix:/run/gate.sock", "unix:/a://b:1"] {
            for host in ["localhost", &own] {
                assert!(is_host_of(address, host), "{address} {host}");
            }
            for host in ["gate.example", "b", "gate"] {
                assert!(host == own || !is_host_of(address, host), "{address} {host}");
            }
        }
        assert!(!is_host_of("tls://[::1]:443", "localhost") && !is_host_of("", "localhost"));
    }

    #[test]
    fn s_043_a_server_that_nothing_verifies_has_to_prove_itself() {
        let unverified = Server::new("unix:/run/xpra.sock", true, false);
        let verified = Server::new("unix:/run/xpra.sock", true, true);
        for (policy, unverified_in, verified_in) in
            [("unverified", false, true), ("always", false, false), ("never", true, true)]
        {
            for (server, taken) in [(&unverified, unverified_in), (&verified, verified_in)] {
                let mechanism = Mechanism::Other("gss:xpra/localhost".to_owned());
                let challenge = Challenge::new(vec![7; 64], mechanism, "hmac+sha512", "password");
                let tickets = tickets(&[("mutual", policy)]).unwrap();
                let question = Question::new(server, None, &challenge);
                assert_eq!(tickets.open(&question).is_ok(), taken, "Xpra's, {policy}");
                assert!(tickets.open(&question.of_countersign(true)).is_ok(), "ours, {policy}");
            }
        }
    }

    #[test]
    fn s_065_what_is_no_service_or_policy_is_an_error() {
        for wrong in [("service", ""), ("service", "a/b/c"), ("service", "a b"), ("mutual", "yes")] {
            assert!(tickets(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
