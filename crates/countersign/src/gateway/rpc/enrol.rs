//! The calls that are answered here: a certificate comes in, takes another's place, and what lets it in is set.
//!
//! The rules are the trust store's. Multipass's codes are kept, because its clients and their manuals rely on them.

use std::{future::Future, sync::Arc};

use hyper::{Request, Response, body::Incoming};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    answer::{Answer, refused, replied},
    call::{Calls, Live, is_about_certificate},
    message::{First, fault, first},
    pass,
};
use crate::{
    Grant, Identity, Refusal, Secret,
    modules::CERTIFICATE,
    proto::{
        error::Reason,
        peer::Certificate,
        wire::multipass::{
            AuthenticateReply, AuthenticateRequest, Code, GetReply, GetRequest, Message, PASSPHRASE_KEY,
            RenewReply, RenewRequest, SetReply, SetRequest, Status, path,
        },
    },
    transport::tls,
    trust::{EnrolError, NewPassphrase, Newcomer, Token, Trust, TrustError, TrustStore},
};

/// `authenticate`: the certificate of this connection for a passphrase or an invitation.
pub(super) async fn authenticate(calls: &Calls, request: Request<Incoming>) -> Response<Answer> {
    let done = async {
        let (trust, newcomer) = newcomer(calls).await?;
        let penalties = calls.hall().acceptor.penalties();
        if let Some(Err(retry_after)) = penalties.map(|penalties| penalties.admit_caller(calls.peer())) {
            return enrolled(calls, "penalty", Err(EnrolError::TooMany { retry_after })).await;
        }
        let (message, peer) = (complete(calls, request).await?, Arc::clone(calls.peer()));
        let passphrase = AuthenticateRequest::decode(message.expose()).map_err(fault)?.passphrase;
        let way = if Token::is_meant_by(&passphrase) { "invitation" } else { "passphrase" };
        let digest = penalties.map(|penalties| penalties.digest(&passphrase));
        // Multipass's order: what is given is judged first, and then there is no certificate to accept.
        let enrol = move |store: &TrustStore| match (newcomer, way) {
            (None, _) => Err(store.judge_without_certificate(&peer, &passphrase)),
            (Some(newcomer), "invitation") => store.enrol_by_token(&newcomer, &passphrase),
            (Some(newcomer), _) => store.enrol_by_passphrase(&newcomer, &passphrase),
        };
        let done = on_a_thread(trust, enrol).await;
        match (penalties, &done) {
            (Some(penalties), Ok(_)) => penalties.caller_guessed(calls.peer(), None),
            (Some(penalties), Err(EnrolError::Wrong | EnrolError::Spent)) => {
                penalties.caller_guessed(calls.peer(), digest);
            }
            _ => {}
        }
        enrolled(calls, way, done).await
    };
    done.await.map_or_else(|status: Status| refused(&status), |()| replied(&AuthenticateReply::default()))
}

/// `Renew`: the certificate of this connection in place of an accepted one, by whose key it is vouched for.
pub(super) async fn renew(calls: &Calls, request: Request<Incoming>) -> Response<Answer> {
    let done = async {
        let (trust, newcomer) = newcomer(calls).await?;
        let newcomer =
            newcomer.ok_or_else(|| Status::new(Code::Internal, EnrolError::NoCertificate.to_string()))?;
        let message = complete(calls, request).await?;
        let request = RenewRequest::decode(message.expose()).map_err(fault)?;
        let Some(binding) = &calls.peer().channel_binding else {
            return Err(Status::new(Code::FailedPrecondition, "a certificate is renewed over TLS 1.3 only"));
        };
        let statement = RenewRequest::statement(binding, &newcomer.fingerprint().0);
        if !tls::has_signed(&request.certificate, &statement, &request.proof) {
            let what = "the proof was not made by the key of the old certificate for this connection";
            calls.record_refusal(Refusal::new(Reason::WrongSecret, what));
            return Err(Status::new(Code::InvalidArgument, what));
        }
        let old = Certificate::new(&request.certificate).fingerprint;
        let renewed = on_a_thread(trust, move |store: &TrustStore| store.renew(&old, &newcomer)).await;
        enrolled(calls, "renewal", renewed).await
    };
    done.await.map_or_else(|status: Status| refused(&status), |()| replied(&RenewReply::default()))
}

/// `get` and `set` of an accepted client: the passphrase's here, every other key passes to the daemon.
pub(super) async fn setting(
    calls: &Calls,
    grant: &Grant,
    request: Request<Incoming>,
    mut live: Live,
) -> Response<Answer> {
    let (parts, mut body) = request.into_parts();
    let First { message, read } = tokio::select! {
        ended = live.ended() => return ended,
        first = in_time(calls, first(&mut body)) => match first {
            Ok(first) => first,
            Err(status) => return refused(&status),
        },
    };
    let answered = match parts.uri.path() {
        path::GET => GetRequest::decode(message.expose()).map(|request| {
            let ours = request.key == PASSPHRASE_KEY;
            ours.then(|| Setting::Get)
        }),
        _ => SetRequest::decode(message.expose()).map(|request| {
            let ours = request.key == PASSPHRASE_KEY;
            ours.then(|| Setting::Set(request.val))
        }),
    };
    match answered {
        Err(error) => refused(&fault(error)),
        Ok(None) => pass::on(calls, grant, Request::from_parts(parts, body), read, live).await,
        Ok(Some(setting)) => {
            passphrase(calls, grant, setting).await.unwrap_or_else(|status| refused(&status))
        }
    }
}

/// What is wanted of the passphrase.
enum Setting {
    Get,
    Set(Secret),
}

async fn passphrase(calls: &Calls, grant: &Grant, setting: Setting) -> Result<Response<Answer>, Status> {
    // Whoever may change who comes in has come in by a certificate itself.
    if !grant.proofs().iter().any(|proof| proof.module == CERTIFICATE) {
        return Err(no_certificates());
    }
    let trust = trust(calls)?;
    let value = match setting {
        Setting::Get => {
            let set = trust.store().is_some_and(TrustStore::has_passphrase);
            // Clients show `true` for anything but nothing (M3).
            return Ok(replied(&GetReply::new(if set { "true" } else { "" })));
        }
        Setting::Set(value) => value,
    };
    let by = grant.identity().map_or_else(|| grant.peer().to_string(), |identity| identity.name.to_string());
    let (unset, author) = (value.is_empty(), by.clone());
    let set = on_a_thread(trust, move |store: &TrustStore| {
        let new = (!value.is_empty()).then(|| NewPassphrase::new(value));
        store.set_passphrase(new.as_ref(), &by).map_err(EnrolError::Failed)
    });
    match set.await {
        Ok(()) => {
            calls.hall().auditor.passphrase_set(calls.session(), &author, unset);
            Ok(replied(&SetReply::default()))
        }
        Err(EnrolError::Failed(TrustError::Unacceptable(why))) => {
            Err(Status::new(Code::InvalidArgument, why))
        }
        Err(error) => {
            log(calls, &error);
            Err(Status::new(
                Code::Internal,
                "the passphrase could not be kept: the reason is in the gateway's log",
            ))
        }
    }
}

/// Who asks to come in, if a certificate was shown. The links in front of `certificate` hold for that too: nobody guesses from an address
/// that may not even connect. Nobody becomes the first client by it.
async fn newcomer(calls: &Calls) -> Result<(Trust, Option<Newcomer>), Status> {
    let trust = trust(calls)?;
    match calls.ask_as_stranger().await {
        Err(refusal) if !is_about_certificate(&refusal) => {
            calls.note_refused(&refusal);
            Err(calls.explained(&refusal).await)
        }
        _ => Ok((trust, Newcomer::of(calls.peer()))),
    }
}

fn trust(calls: &Calls) -> Result<Trust, Status> {
    let reliance = calls.hall().reliance.as_ref();
    reliance.map(|reliance| reliance.trust().clone()).ok_or_else(no_certificates)
}

fn no_certificates() -> Status {
    Status::new(Code::FailedPrecondition, "this socket accepts nobody by a certificate")
}

/// The message of a call that a stranger may make: with it the call is complete (S-01).
async fn complete(calls: &Calls, request: Request<Incoming>) -> Result<Secret, Status> {
    let mut body = request.into_body();
    let First { message, .. } = in_time(calls, first(&mut body)).await?;
    calls.begun();
    Ok(message)
}

async fn in_time(calls: &Calls, first: impl Future<Output = Result<First, Status>>) -> Result<First, Status> {
    let late = |_| Err(Status::new(Code::DeadlineExceeded, "the message of the call did not come in time"));
    timeout(calls.settings().handshake_timeout, first).await.unwrap_or_else(late)
}

/// Runs what hashes and syncs where it may block. How much of it runs at once is the store's rule (S-55).
async fn on_a_thread<T: Send + 'static>(
    trust: Trust,
    work: impl FnOnce(&TrustStore) -> Result<T, EnrolError> + Send + 'static,
) -> Result<T, EnrolError> {
    let done = spawn_blocking(move || trust.store().map(work)).await;
    // A store that is not open, or work that crashed, has let nobody in.
    done.ok().flatten().unwrap_or(Err(EnrolError::Taken))
}

/// Records how an enrolment ended, and says what the client is told.
async fn enrolled(
    calls: &Calls,
    way: &'static str,
    done: Result<Identity, EnrolError>,
) -> Result<(), Status> {
    let error = match done {
        Ok(identity) => {
            let (hall, user) = (calls.hall(), identity.name.as_str());
            hall.auditor.enrolled(&hall.name, calls.session(), calls.peer(), user, way);
            return Ok(());
        }
        Err(error) => error,
    };
    let (code, reason) = match &error {
        EnrolError::NoPassphrase | EnrolError::Taken => (Code::FailedPrecondition, Reason::PeerDenied),
        EnrolError::Wrong | EnrolError::Spent => (Code::InvalidArgument, Reason::WrongSecret),
        EnrolError::TooMany { .. } => (Code::ResourceExhausted, Reason::Busy),
        EnrolError::Revoked => (Code::PermissionDenied, Reason::AccountDisabled),
        EnrolError::NoCertificate => (Code::Internal, Reason::PeerDenied),
        _ => (Code::Internal, Reason::ModuleFailed),
    };
    log(calls, &error);
    calls.record_refusal(Refusal::new(reason, format!("{way}: {}", error.code())));
    let status = Status::new(code, error.to_string());
    Err(match error {
        // Nobody can enrol, and whoever could change that is the one who came first.
        EnrolError::NoPassphrase => calls.with_first(status).await,
        _ => status,
    })
}

fn log(calls: &Calls, error: &EnrolError) {
    if let EnrolError::Failed(error) = error {
        tracing::error!(socket = &*calls.hall().name, fix = error.fix(), "{error}");
    }
}
