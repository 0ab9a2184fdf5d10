//! Tokens and scopes. No token means that only loopback and Unix sockets are served, and everything is open there.

use std::path::Path;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::ApiError;
use crate::config::{ConfigError, Server};

/// Environment variable that sets one token of scope `route`.
pub const ROUTE_TOKEN_ENV: &str = "BUSY_ROUTER_TOKEN";
/// Environment variable that sets one token of scope `admin`.
pub const ADMIN_TOKEN_ENV: &str = "BUSY_ROUTER_ADMIN_TOKEN";

/// What a token is good for; neither includes the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The POST endpoints.
    Route,
    /// Decisions, the operator's page, and metrics where they need a token.
    Admin,
}

impl Scope {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Admin => "admin",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    token: Vec<TokenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    /// For people only.
    #[allow(dead_code)]
    name: String,
    scope: Scope,
    sha256: String,
}

/// The tokens that are accepted: only their hashes, so that nothing that is printed can hold one.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    known: Vec<(Scope, [u8; 32])>,
}

impl Tokens {
    /// Reads the tokens that a listener's settings and this process's environment name.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else, or an empty variable.
    pub fn load_for(server: &Server) -> Result<Self, ConfigError> {
        Self::load(server.tokens_file.as_deref(), |name| std::env::var(name).ok())
    }

    /// Reads the tokens of a file and of the environment.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else, or an empty variable.
    pub fn load(file: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut tokens = Self::default();
        if let Some(path) = file {
            let wrong = |message: String| ConfigError {
                key: "server.tokens_file".to_owned(),
                origin: path.display().to_string(),
                message,
            };
            let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
            // The parser's own message would quote the line, and with it perhaps a token that was pasted instead of its hash.
            let file: TokenFile = toml::from_str(&text).map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
            for entry in file.token {
                let hash = parse_hex(&entry.sha256).ok_or_else(|| {
                    wrong(format!(
                        "token `{}`: sha256 must be 64 hex digits, the SHA-256 of the token (printf %s \"$TOKEN\" | sha256sum)",
                        entry.name
                    ))
                })?;
                tokens.known.push((entry.scope, hash));
            }
        }
        for (variable, scope) in [(ROUTE_TOKEN_ENV, Scope::Route), (ADMIN_TOKEN_ENV, Scope::Admin)] {
            match env(variable) {
                Some(token) if token.trim().is_empty() => {
                    return Err(ConfigError {
                        key: String::new(),
                        origin: variable.to_owned(),
                        message: "is empty; unset it or give a token".to_owned(),
                    });
                }
                Some(token) => tokens.known.push((scope, Sha256::digest(token.trim().as_bytes()).into())),
                None => {}
            }
        }
        Ok(tokens)
    }

    /// Whether there is any token at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether a listener may be served with these tokens: without any, only loopback addresses and Unix sockets.
    ///
    /// # Errors
    /// Other machines could reach the listener, and everything would be open to them.
    pub fn suffice_for(&self, server: &Server) -> Result<(), ConfigError> {
        if server.is_public() && self.is_empty() {
            return Err(ConfigError::of_key(
                "server.listen",
                format!(
                    "{} can be reached from other machines and no token is configured; set server.tokens_file or BUSY_ROUTER_TOKEN, or listen on 127.0.0.1",
                    server.listen
                ),
            ));
        }
        Ok(())
    }

    /// Whether some token has this scope.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.known.iter().any(|(known, _)| *known == scope)
    }

    /// Checks a request's token.
    ///
    /// # Errors
    /// `Unauthorized` without a known token, `Forbidden` with one of another scope.
    pub fn authorize(&self, headers: &HeaderMap, scope: Scope) -> Result<(), ApiError> {
        if self.known.is_empty() {
            return Ok(());
        }
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.as_bytes().split_first_chunk::<7>())
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, token)| token.trim_ascii())
            .ok_or(ApiError::Unauthorized)?;
        let hash: [u8; 32] = Sha256::digest(token).into();
        let (mut known, mut allowed) = (false, false);
        // All of them are compared, each in constant time: how long it takes tells nothing about which one matched.
        for (token_scope, token_hash) in &self.known {
            let same = bool::from(hash.ct_eq(token_hash));
            known |= same;
            allowed |= same && *token_scope == scope;
        }
        match (known, allowed) {
            (_, true) => Ok(()),
            (true, false) => Err(ApiError::Forbidden(scope.as_str())),
            (false, false) => Err(ApiError::Unauthorized),
        }
    }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let text = text.trim();
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn tokens() -> Tokens {
        Tokens::load(None, |name| Some(if name == ROUTE_TOKEN_ENV { "r" } else { "a" }.to_owned())).expect("loads")
    }

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn scopes_do_not_include_each_other() {
        let tokens = tokens();
        assert_eq!(tokens.authorize(&headers("Bearer r"), Scope::Route), Ok(()));
        assert_eq!(tokens.authorize(&headers("bearer a"), Scope::Admin), Ok(()));
        assert_eq!(tokens.authorize(&headers("Bearer r"), Scope::Admin), Err(ApiError::Forbidden("admin")));
        assert_eq!(tokens.authorize(&headers("Bearer a"), Scope::Route), Err(ApiError::Forbidden("route")));
        for wrong in ["Bearer x", "Bearer ", "Basic r", "r", ""] {
            assert_eq!(tokens.authorize(&headers(wrong), Scope::Route), Err(ApiError::Unauthorized), "{wrong}");
        }
        assert_eq!(tokens.authorize(&HeaderMap::new(), Scope::Route), Err(ApiError::Unauthorized));
        assert_eq!(Tokens::default().authorize(&HeaderMap::new(), Scope::Admin), Ok(()), "without tokens all is open");
    }

    #[test]
    fn a_token_file_holds_hashes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.toml");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        write(&format!(
            "[[token]]\nname = \"gateway\"\nscope = \"route\"\nsha256 = \"{}\"\n",
            "454349e422f05297191ead13e21d3db520e5abef52055e4964b82fb213f593a1"
        ));
        let tokens = Tokens::load(Some(&path), |_| None).expect("loads");
        assert_eq!(tokens.authorize(&headers("Bearer r"), Scope::Route), Ok(()));
        for wrong in [
            "[[token]]\nname = \"x\"\nscope = \"route\"\nsha256 = \"abc\"",
            "[[token]]\nname = \"x\"\nscope = \"all\"\nsha256 = \"\"",
            "token = 3",
        ] {
            write(wrong);
            assert!(Tokens::load(Some(&path), |_| None).is_err(), "{wrong}");
        }
        assert!(Tokens::load(None, |_| Some(String::new())).is_err(), "an empty token would let everybody in");
    }
}
