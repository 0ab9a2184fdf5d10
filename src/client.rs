//! Outgoing HTTP: one way to make a client, whoever calls.

use reqwest::ClientBuilder;
use url::{Host, Url};

/// A client for one address: no redirects, no retries, small packets sent at once; straight to loopback, whatever proxy the environment
/// names; without the system's certificates where no TLS is spoken.
pub fn builder(url: &Url) -> ClientBuilder {
    // An error says that a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder =
        reqwest::Client::builder().tcp_nodelay(true).redirect(reqwest::redirect::Policy::none()).retry(reqwest::retry::never());
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // They would cost time and memory, and fail where there are none, for nothing.
        builder = builder.tls_certs_only([]);
    }
    builder
}

/// Whether the address is this machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}
