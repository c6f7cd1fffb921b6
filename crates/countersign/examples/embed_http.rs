//! A login before an HTTP service on a Unix socket: only the owner's programs get an answer.
//!
//! Nothing is said before HTTP, so any HTTP client will do; the kernel tells who it is.
//!
//! ```console
//! $ cargo run --example embed_http -- /tmp/http.sock
//! $ curl --unix-socket /tmp/http.sock http://app/
//! ```

use std::convert::Infallible;

use countersign::{
    config::Protocol,
    gateway::drive::Acceptor,
    transport::{Address, Listener, UnixOptions},
};
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "http.sock".to_owned());
    let acceptor = Acceptor::of(&["peercred"])?.with_protocol(Protocol::Stream);
    let listener = Listener::bind(&Address::Unix(path.into()), &UnixOptions::default()).await?;
    loop {
        let (stream, peer) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(admitted) = acceptor.accept(stream, peer).await else { return };
            let who =
                admitted.grant.identity().map_or_else(|| "nobody".to_owned(), |who| who.name.to_string());
            let Ok(stream) = admitted.into_stream().await else { return };
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let page = format!("{who} asks for {}\n", request.uri().path());
                async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(page)))) }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                eprintln!("the connection ended: {error}");
            }
        });
    }
}
