//! `kerberos-ticket` and `gss`: a ticket for our service. One check by two names, as Xpra has two handlers.
//!
//! Rounds with our own client: it sends its token without a salt, and is sent the token that proves us.
//! Xpra's clients mask theirs with salts, and take part in nothing that follows.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Calls, INSECURE, KEYTAB, TIMEOUT, keytab, principal, principal::Naming, service};
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Verifier,
    error::ConfigError,
    modules::{Context, Module, OptionSpec, Options},
    needs::Need,
    proto::{
        chain::{Answer, Ask, Exchange, OpenExchange, Verdict},
        error::Reason,
        mechanism::ticket::{self, SATISFIED, Service, Ticket},
    },
    sys::{
        gssapi::{Accepted, GssError, Gssapi},
        krb5::Krb5,
    },
};

pub(in crate::modules) struct KerberosTicket;

impl Module for KerberosTicket {
    fn name(&self) -> &'static str {
        "kerberos-ticket"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["kerberos-token"]
    }

    fn summary(&self) -> &'static str {
        "Kerberos tickets for this service, by Xpra's handler kerberos"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The same as gss, for clients whose handler is kerberos: the token travels as base64 text, and the service is \
         written NAME@HOST on the wire, as that handler of Xpra's reads it. See gss."
    }

    fn example(&self) -> &'static str {
        "kerberos-ticket(service=xpra/gate.example.org, keytab=/etc/countersign/gate.keytab)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn needs(&self, options: &Options) -> Vec<Need> {
        super::needs(self.options(), options)
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        configure(Ticket::Kerberos, options)
    }
}

pub(in crate::modules) struct Gss;

impl Module for Gss {
    fn name(&self) -> &'static str {
        "gss"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["gss-auth"]
    }

    fn summary(&self) -> &'static str {
        "Kerberos tickets for this service, by GSSAPI and Xpra's handler gss"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The client proves itself by a ticket for service, whose key has to be in the keytab; tickets for other \
         services of the same keytab are refused, and so are those that are over, were used before, or are bound to \
         another TLS connection. A token is worth as much as a password to whoever sees it first, so it is asked for \
         over TLS, SSH or a local socket only.\n\n\
         Who it is, is what the principal says and not what the client claims: local takes the name out of \
         alice@REALM and refuses all other forms and realms, auth-to-local asks the rules in krb5.conf, principal \
         takes the whole. A client that claims to be somebody else is refused; it need not claim anything.\n\n\
         Our own client binds its token to the TLS connection (tls-exporter, TLS 1.3) and has the gateway prove that \
         it holds the key. Xpra's clients do neither. With channel-binding=if-sent a token that is bound to nothing \
         is taken, while nobody can take the binding off one that has it; required refuses such clients wherever \
         there is TLS. It needs MIT Kerberos 1.19 here; before, a token without a binding is refused on TLS 1.3 \
         whatever is written.\n\n\
         A token of more than 16 KiB is refused: tickets of Active Directory for members of very many groups are \
         larger. Needs libgssapi_krb5.so.2 and libkrb5.so.3 (Debian: libgssapi-krb5-2, libkrb5-3)."
    }

    fn example(&self) -> &'static str {
        "gss(service=countersign/gate.example.org, keytab=/etc/countersign/gate.keytab)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn needs(&self, options: &Options) -> Vec<Need> {
        super::needs(self.options(), options)
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        configure(Ticket::Gss, options)
    }
}

fn configure(ticket: Ticket, options: &mut Options) -> Result<Verifier, ConfigError> {
    let module = format!("module {}", options.module());
    let gssapi = Gssapi::load().map_err(|error| error.within(&module))?;
    let library = Krb5::load().map_err(|error| error.within(&module))?;
    let Some(service) = service(options)? else {
        let fix = "write service=NAME/HOST, as service=countersign/gate.example.org";
        return Err(options.error("service", "it is required and missing", fix));
    };
    let calls = Calls::configure(options)?;
    let naming = Naming::configure(options, library)?;
    let binding_required = match options.take("channel-binding")?.as_ref().map(|policy| policy.as_str()) {
        None | Some("if-sent") => false,
        Some("required") => true,
        Some(_) => {
            let fix = "write channel-binding=if-sent or channel-binding=required";
            return Err(options.error("channel-binding", "there is no such policy", fix));
        }
    };
    let keytab = keytab(options)?;
    gssapi.acceptor(service.name(), service.host(), keytab.as_deref()).map_err(|error| {
        let why = format!("there is no key of the service: {error}");
        options.error("keytab", why, "write keytab=FILE with that key, as kadmin's ktadd makes it")
    })?;
    let tickets = Tickets { ticket, service, keytab, gssapi, library, calls, naming, binding_required };
    Ok(Verifier::Exchange(Box::new(Shared(Arc::new(tickets)))))
}

/// Judges tickets for one service.
struct Tickets {
    ticket: Ticket,
    service: Service,
    keytab: Option<String>,
    gssapi: &'static Gssapi,
    library: &'static Krb5,
    calls: Calls,
    naming: Naming,
    binding_required: bool,
}

/// What the rounds of all clients share.
struct Shared(Arc<Tickets>);

impl OpenExchange for Shared {
    fn open(&self, peer: &Peer, claim: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        let binding = peer.channel_binding.clone();
        if self.0.binding_required && peer.tls.is_some() && binding.is_none() {
            return Err(Refusal::peer_denied(
                "a login is to be bound to the TLS connection, and that needs TLS 1.3",
            ));
        }
        let state = State::Start;
        Ok(Box::new(Rounds { tickets: Arc::clone(&self.0), binding, claim: claim.clone(), state }))
    }

    fn binds_channel(&self) -> bool {
        true
    }

    fn needs_cleartext(&self) -> bool {
        true
    }
}

/// The rounds with one client.
struct Rounds {
    tickets: Arc<Tickets>,
    binding: Option<Arc<[u8]>>,
    claim: Claim,
    state: State,
}

/// What comes next.
enum State {
    Start,
    Token,
    /// The client was sent our proof and says whether it is satisfied.
    Satisfied(Identity),
    Over,
}

impl Exchange for Rounds {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        match (std::mem::replace(&mut self.state, State::Over), answer) {
            (State::Start, None) => {
                self.state = State::Token;
                self.ask(None)
            }
            (State::Token, Some(answer)) => self.judge(&answer).unwrap_or_else(Verdict::Refuse),
            (State::Satisfied(identity), Some(answer)) if answer.value.matches(SATISFIED) => {
                Verdict::Pass(Some(identity))
            }
            _ => Verdict::Refuse(Refusal::new(
                Reason::WrongSecret,
                "the client leaves the rounds of the mechanism",
            )),
        }
    }
}

impl Rounds {
    fn ask(&self, message: Option<Vec<u8>>) -> Verdict {
        let mechanism = self.tickets.ticket.mechanism(&self.tickets.service);
        Verdict::Ask(Ask::Token { mechanism, message })
    }

    fn judge(&mut self, answer: &Answer) -> Result<Verdict, Refusal> {
        let token = self.tickets.decoded(&answer.value)?;
        let accepted = self.tickets.accept(token, self.binding.clone())?;
        if self.binding.is_some() && self.tickets.binding_required && !accepted.bound {
            return Err(Refusal::peer_denied("the token is not bound to the TLS connection"));
        }
        let Tickets { naming, library, .. } = &*self.tickets;
        let identity = naming.identity_as_claimed(&accepted.principal, &self.claim, library)?;
        let is_ours = answer.client_salt.is_empty();
        if !is_ours {
            return Ok(Verdict::Pass(Some(identity)));
        }
        if accepted.reply.is_empty() {
            return Err(Refusal::new(Reason::WrongSecret, "the client does not ask for our proof"));
        }
        self.state = State::Satisfied(identity);
        Ok(self.ask(Some(self.tickets.encoded(accepted.reply))))
    }
}

impl Tickets {
    fn decoded(&self, value: &Secret) -> Result<Secret, Refusal> {
        match self.ticket {
            Ticket::Gss => Ok(Secret::new(value.expose())),
            Ticket::Kerberos => STANDARD
                .decode(value.expose())
                .map(Secret::new)
                .map_err(|_| Refusal::new(Reason::WrongSecret, "the token is not base64")),
        }
    }

    fn encoded(&self, token: Vec<u8>) -> Vec<u8> {
        match self.ticket {
            Ticket::Gss => token,
            Ticket::Kerberos => STANDARD.encode(token).into_bytes(),
        }
    }

    fn accept(&self, token: Secret, binding: Option<Arc<[u8]>>) -> Result<Accepted, Refusal> {
        let (gssapi, service, keytab) = (self.gssapi, self.service.clone(), self.keytab.clone());
        let accepted = self.calls.run(move || {
            let acceptor = gssapi.acceptor(service.name(), service.host(), keytab.as_deref());
            let acceptor = acceptor.map_err(|error| Refusal::module_failed(error.to_string()))?;
            let binding = binding.as_deref().map(ticket::binding);
            acceptor.accept(token.expose(), binding.as_deref()).map_err(|error| refused(&error))
        });
        accepted.and_then(|accepted| accepted)
    }
}

fn refused(error: &GssError) -> Refusal {
    if error.is_of_another_channel() {
        // A relay, or a proxy that ends TLS in between.
        return Refusal::peer_denied("the token is bound to another connection than it came on (S-35)");
    }
    Refusal::new(Reason::WrongSecret, error.to_string())
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("service", "NAME/HOST", "", "the service that the tickets have to be for; required"),
    KEYTAB,
    principal::REALM,
    principal::PRINCIPAL,
    principal::NAME,
    OptionSpec::new(
        "channel-binding",
        "if-sent|required",
        "if-sent",
        "whether a token that is bound to no TLS connection is taken",
    ),
    TIMEOUT,
    INSECURE,
];

#[cfg(test)]
mod tests {
    use crate::modules::login::link;

    #[test]
    fn s_075_without_the_services_key_the_gateway_does_not_start() {
        for module in ["gss", "gss_auth", "kerberos-ticket", "kerberos_token"] {
            let keytab = [("realm", "R"), ("service", "countersign/localhost"), ("keytab", "MEMORY:none")];
            let error = link(module, &keytab).unwrap_err();
            assert!(error.to_string().contains("there is no key of the service"), "{error}");
            assert!(link(module, &[("realm", "R")]).unwrap_err().to_string().contains("service"));
        }
    }

    #[test]
    fn s_065_options_that_cannot_work_are_start_errors_that_repeat_no_value() {
        for wrong in [
            ("channel-binding", "secret-value"),
            ("channel-binding", "no"),
            ("keytab", "/nonexistent/keytab"),
            ("timeout", "secret-value"),
            ("name", "secret-value"),
        ] {
            let error = link("gss", &[("service", "a/b"), ("realm", "R"), wrong]).unwrap_err();
            assert!(!format!("{error}{}", error.fix()).contains("secret-value"), "{error}");
        }
    }
}
