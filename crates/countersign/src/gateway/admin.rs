//! The operator's listener: numbers and health over HTTP, on this machine only.
//!
//! | path | says |
//! |---|---|
//! | `/metrics` | the numbers ([`super::metrics`]) |
//! | `/livez` | 200 while the loops of all doors go round, 503 otherwise |
//! | `/readyz` | 200 while clients can log in: 503 while the gateway ends, or without its trust store |
//!
//! Nothing is changed by it and nothing it says names a client, so whoever reaches it may ask.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{desk::Desk, metrics};
use crate::transport::{Listener, Stream};

/// Answers until it is dropped.
pub(super) async fn serve(listener: Listener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        // Never closed, so never an error.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    // Whoever says nothing holds its place no longer than this.
                    let _ = timeout(PATIENCE, talk(stream, desk)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("the operator's listener: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn talk(stream: Stream, desk: Arc<Desk>) {
    let service = service_fn(|request: Request<Incoming>| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(answer(&request, &desk).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(LONGEST_HEAD).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("the operator's listener: {error}");
    }
}

async fn answer(request: &Request<Incoming>, desk: &Arc<Desk>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let health = |well: bool| match well {
        true => plain(StatusCode::OK, "ok\n".to_owned()),
        false => plain(StatusCode::SERVICE_UNAVAILABLE, "not now\n".to_owned()),
    };
    match request.uri().path() {
        "/livez" => health(desk.lives(ANSWER).await),
        "/readyz" => health(desk.is_ready(ANSWER).await),
        "/metrics" => {
            let (ready, desk) = (desk.is_ready(ANSWER).await, Arc::clone(desk));
            // The trust store is asked too, which may wait for its disk.
            let Ok(page) = spawn_blocking(move || metrics::page(&desk, ready)).await else {
                return health(false);
            };
            let mut response = plain(StatusCode::OK, page);
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n".to_owned()),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Connections at the same time.
const AT_ONCE: usize = 16;
/// How long one may last.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a door's loop may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const LONGEST_HEAD: usize = 16 * 1024;
/// After a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);
