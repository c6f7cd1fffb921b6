//! A daemon that lets its own clients in: the owner on a Unix socket, nobody else.
//!
//! ```console
//! $ cargo run --example embed_server -- /tmp/app.sock
//! $ countersign connect unix:///tmp/app.sock
//! ```

use countersign::{
    gateway::drive::Acceptor,
    transport::{Address, Listener, UnixOptions},
};
use tokio::io::AsyncWriteExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "app.sock".to_owned());
    let acceptor = Acceptor::of(&["peercred"])?;
    let listener = Listener::bind(&Address::Unix(path.into()), &UnixOptions::default()).await?;
    loop {
        let (stream, peer) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match acceptor.accept(stream, peer).await {
                Ok(admitted) => {
                    let who = admitted
                        .grant
                        .identity()
                        .map_or_else(|| "nobody".to_owned(), |who| who.name.to_string());
                    let mut stream = admitted.into_stream().await?;
                    stream.write_all(format!("hello, {who}\n").as_bytes()).await?;
                    stream.shutdown().await
                }
                Err(turned) => {
                    eprintln!("turned away: {turned}");
                    Ok(())
                }
            }
        });
    }
}
