//! A client that logs in and then speaks its own protocol: here, lines from standard input.
//!
//! ```console
//! $ echo hello | cargo run --example embed_client -- unix:/tmp/app.sock
//! ```

use countersign::{
    connect::{Connector, relay},
    handlers::{Registry, Sources},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "unix:app.sock".to_owned());
    let connected = Connector::new(address.parse()?)
        .with_handlers(Registry::builtin().all(Sources::new())?)
        .connect()
        .await?;
    eprintln!("let in at {} by {:?}", connected.server.address, connected.server.answered);
    relay(connected.stream, tokio::io::stdin(), tokio::io::stdout()).await?;
    Ok(())
}
