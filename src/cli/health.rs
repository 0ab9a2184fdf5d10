//! `busy-router health`

use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, print};
use crate::client;

/// How long the service may take to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(3);

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the service listens; by default what `BUSY_ROUTER_LISTEN` says, else 127.0.0.1:8710.
    #[arg(long)]
    url: Option<url::Url>,
}

/// Asks a running service whether it is ready.
///
/// # Errors
/// It is not, or not there.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let url = if let Some(url) = &args.url {
        url.clone()
    } else {
        let listen = ["BUSY_ROUTER_LISTEN", "BUSY_ROUTER_SERVER__LISTEN"].iter().find_map(|name| std::env::var(name).ok());
        let listen = listen.unwrap_or_else(|| "127.0.0.1:8710".to_owned());
        // An address that means "everywhere" is asked on loopback.
        let address = listen.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
        format!("http://{address}").parse().map_err(|error| Failure::bad_input(format!("BUSY_ROUTER_LISTEN: {error}")))?
    };
    let ready = url.join("/readyz").map_err(|error| Failure::bad_input(format!("--url: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let client = client::builder(&url).build().map_err(Failure::other)?;
        let response = client.get(ready).timeout(PATIENCE).send().await;
        response.map(|response| response.status()).map_err(|error| Failure::other(format!("not ready: {}", error.without_url())))
    })?;
    if status.is_success() {
        print("ready\n")?;
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::other(format!("not ready: {status}")))
    }
}
