//! From files, environment and flags to [`Settings`].
//!
//! The layers are merged as TOML tables, then read once into the typed settings. An error therefore speaks of the merged value; the
//! path of the key is looked up again in the operator's file to name the line, or in the environment to name the variable.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_path_to_error::Segment;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::{EXAMPLE, FallbackAction, Provider, Settings};
use crate::protocol::Mode;

/// Longest window that memory is kept for, in seconds; windows beyond it would promise what is not remembered.
pub const MAX_WINDOW_S: u64 = 3_600;
/// Prefix of the environment variables that override settings.
pub const ENV_PREFIX: &str = "BUSY_ROUTER_";
/// Variables with the prefix that are not settings: the two tokens.
pub const TOKEN_ENV: [&str; 2] = ["BUSY_ROUTER_TOKEN", "BUSY_ROUTER_ADMIN_TOKEN"];

/// Where settings come from, weakest first: the example's defaults, `file`, `env`, then the flags.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The operator's file.
    pub file: Option<PathBuf>,
    /// Environment variables; those without the prefix are ignored.
    pub env: Vec<(String, String)>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--mode`
    pub mode: Option<Mode>,
}

/// Settings, and what the operator should hear about them.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective settings.
    pub settings: Settings,
    /// Things that work but are probably not meant.
    pub warnings: Vec<String>,
}

/// A setting that is wrong: which, where it stands, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key with dots, such as `model.timeout_ms`; empty when the file as a whole is unreadable.
    pub key: String,
    /// Where it stands, such as `busy-router.toml:12` or `BUSY_ROUTER_MODE`.
    pub origin: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl ConfigError {
    /// An error about a key that is not tied to a place, such as a token file that cannot be read.
    pub fn of_key(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), origin: String::new(), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.origin, &self.key] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

impl Sources {
    /// The sources of a real start: the given file and flags, and this process's environment.
    #[must_use]
    pub fn from_process(file: Option<PathBuf>, listen: Option<String>, mode: Option<Mode>) -> Self {
        // A variable that is not UTF-8 cannot be a setting of ours.
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX))
            .collect();
        Self { file, env, listen, mode }
    }

    /// Merges the layers and reads them.
    ///
    /// # Errors
    /// The first setting that is wrong, with its place.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let text = match &self.file {
            Some(path) => std::fs::read_to_string(path).map_err(|error| ConfigError {
                key: String::new(),
                origin: path.display().to_string(),
                message: format!("cannot be read: {error}"),
            })?,
            None => String::new(),
        };
        self.load_text(&text)
    }

    /// The same with the file's content at hand.
    ///
    /// # Errors
    /// The first setting that is wrong, with its place.
    pub fn load_text(&self, text: &str) -> Result<Loaded, ConfigError> {
        let origins = Origins { file: self.file.as_deref(), text, env: self.env_keys() };
        let mut merged = parse_table(EXAMPLE, &origins)?;
        let file = parse_table(text, &origins)?;
        if file
            .get("server")
            .and_then(Value::as_table)
            .is_some_and(|server| server.contains_key("listen") && server.contains_key("unix_socket"))
        {
            return Err(origins.error(&["server", "unix_socket"], "stands beside `listen`; give one of the two"));
        }
        merge(&mut merged, file);

        let mut warnings = Vec::new();
        for (variable, path) in &origins.env {
            let Some((_, value)) = self.env.iter().find(|(name, _)| name == variable) else { continue };
            if let Some(why) = unknown_key(path) {
                warnings.push(format!("{variable} is ignored: {why}"));
                continue;
            }
            insert_env(&mut merged, path, value);
        }
        if let Some(mode) = self.mode {
            merged.insert("mode".to_owned(), Value::String(mode.as_str().to_owned()));
        }
        if let Some(listen) = &self.listen {
            insert(&mut merged, &["server".to_owned(), "listen".to_owned()], Value::String(listen.clone()));
            if let Some(Value::Table(server)) = merged.get_mut("server") {
                server.remove("unix_socket");
            }
        }
        complete_overrides(&mut merged);

        let mut settings: Settings = serde_path_to_error::deserialize(Value::Table(merged)).map_err(|error| {
            let path: Vec<Segment> = error.path().iter().cloned().collect();
            origins.error_at(&path, &readable(&error.inner().to_string()))
        })?;
        check_ranges(&settings, &origins)?;
        if let Some(folder) = self.file.as_deref().and_then(Path::parent) {
            resolve_paths(&mut settings, folder);
        }
        warnings.extend(contradictions(&settings));
        Ok(Loaded { settings, warnings })
    }

    /// The setting that each prefixed variable speaks of.
    fn env_keys(&self) -> Vec<(String, Vec<String>)> {
        self.env
            .iter()
            .filter(|(name, _)| !TOKEN_ENV.contains(&name.as_str()))
            .filter_map(|(name, _)| {
                let rest = name.strip_prefix(ENV_PREFIX)?;
                let rest = if rest == "LISTEN" { "SERVER__LISTEN" } else { rest };
                Some((name.clone(), rest.to_ascii_lowercase().split("__").map(str::to_owned).collect()))
            })
            .collect()
    }
}

/// Where keys stand, to name the place of an error.
struct Origins<'a> {
    file: Option<&'a Path>,
    text: &'a str,
    env: Vec<(String, Vec<String>)>,
}

impl Origins<'_> {
    fn error(&self, path: &[&str], message: &str) -> ConfigError {
        let path: Vec<Segment> = path.iter().map(|key| Segment::Map { key: (*key).to_owned() }).collect();
        self.error_at(&path, message)
    }

    fn error_at(&self, path: &[Segment], message: &str) -> ConfigError {
        let key = path.iter().fold(String::new(), |key, segment| match segment {
            Segment::Seq { index } => format!("{key}[{index}]"),
            Segment::Map { key: part } | Segment::Enum { variant: part } if key.is_empty() => part.clone(),
            Segment::Map { key: part } | Segment::Enum { variant: part } => format!("{key}.{part}"),
            Segment::Unknown => key,
        });
        let from_env = self.env.iter().find(|(_, env_path)| env_path.join(".") == key);
        let origin = match (from_env, line_of(self.text, path)) {
            (Some((variable, _)), _) => variable.clone(),
            (None, Some(line)) => format!("{}:{line}", self.file_name()),
            (None, None) => String::new(),
        };
        ConfigError { key, origin, message: message.to_owned() }
    }

    fn file_name(&self) -> String {
        self.file.map_or_else(|| "config".to_owned(), |path| path.display().to_string())
    }
}

fn parse_table(text: &str, origins: &Origins<'_>) -> Result<Table, ConfigError> {
    toml::from_str(text).map_err(|error: toml::de::Error| ConfigError {
        key: String::new(),
        origin: match error.span() {
            Some(span) => format!("{}:{}", origins.file_name(), line_at(text, span.start)),
            None => origins.file_name(),
        },
        message: error.message().to_owned(),
    })
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// The line of the deepest part of `path` that stands in `text`; nothing when not even its first part does.
fn line_of(text: &str, path: &[Segment]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut offset = None;
    let mut table = Some(document.get_ref());
    let mut array: Option<&[Spanned<DeValue<'_>>]> = None;
    for segment in path {
        let value = match (segment, table, array) {
            (Segment::Map { key }, Some(table), _) => {
                let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == key.as_str()) else { break };
                offset = Some(name.span().start);
                value
            }
            (Segment::Seq { index }, _, Some(items)) => {
                let Some(item) = items.get(*index) else { break };
                offset = Some(item.span().start);
                item
            }
            _ => break,
        };
        table = None;
        array = None;
        match value.get_ref() {
            DeValue::Table(inner) => table = Some(inner),
            DeValue::Array(items) => array = Some(items),
            _ => break,
        }
    }
    offset.map(|offset| line_at(text, offset))
}

/// Lays `over` on `base`: tables are merged, everything else is replaced.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(key.clone(), value);
    } else if let Value::Table(inner) = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new())) {
        insert(inner, rest, value);
    }
}

/// Sets an environment value with the type that the setting has: `400` is a number for `timeout_ms` and a text for `model`.
fn insert_env(table: &mut Table, path: &[String], text: &str) {
    let typed = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| if parsed.len() == 1 { parsed.remove("value") } else { None });
    let mut trial = table.clone();
    if let Some(value) = typed {
        insert(&mut trial, path, value);
        if Value::Table(trial).try_into::<Settings>().is_ok() {
            let value = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut parsed| parsed.remove("value"));
            if let Some(value) = value {
                insert(table, path, value);
                return;
            }
        }
    }
    insert(table, path, Value::String(text.to_owned()));
}

/// Why a key does not exist, found by reading the defaults with that key set: an unknown one is refused by name.
fn unknown_key(path: &[String]) -> Option<String> {
    let mut table = toml::from_str::<Table>(EXAMPLE).ok()?;
    let mut parent = Some(&table);
    for key in &path[..path.len() - 1] {
        parent = match parent.and_then(|table| table.get(key)) {
            Some(Value::Table(inner)) => Some(inner),
            // `BUSY_ROUTER_MODE__X` would hang a key under something that is not a table.
            Some(_) => return Some(format!("`{key}` has no keys of its own")),
            None => None,
        };
    }
    insert(&mut table, path, Value::String(String::new()));
    let error = serde_path_to_error::deserialize::<_, Settings>(Value::Table(table)).err()?;
    let message = error.inner().to_string();
    message.starts_with("unknown field").then(|| readable(&message))
}

/// An override names only what differs; the rest of a section comes from the base, so that every policy is whole.
fn complete_overrides(merged: &mut Table) {
    let base: Vec<(&str, Value)> = ["fallback", "guards", "actions", "ack"]
        .into_iter()
        .filter_map(|section| Some((section, merged.get(section)?.clone())))
        .collect();
    let Some(Value::Array(overrides)) = merged.get_mut("override") else { return };
    for item in overrides.iter_mut().filter_map(Value::as_table_mut) {
        for (section, base) in &base {
            if let (Some(Value::Table(over)), Value::Table(base)) = (item.get(*section).cloned(), base) {
                let mut whole = base.clone();
                merge(&mut whole, over);
                item.insert((*section).to_owned(), Value::Table(whole));
            }
        }
    }
}

/// Turns serde's words into advice: the key that was probably meant, instead of a list of all.
fn readable(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (kind, list) = if message.starts_with("unknown field") {
        ("unknown key", true)
    } else if message.starts_with("unknown variant") {
        ("unknown value", true)
    } else {
        (message, false)
    };
    let (Some((wrong, known)), true) = (quoted.split_first(), list) else {
        return message.trim_end().to_owned();
    };
    match closest(wrong, known.iter().copied()) {
        Some(meant) => format!("{kind} `{wrong}`; did you mean `{meant}`?"),
        None => format!("{kind} `{wrong}`; known are: {}", known.join(", ")),
    }
}

fn closest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::normalized_damerau_levenshtein(wrong, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// What a type cannot say.
fn check_ranges(settings: &Settings, origins: &Origins<'_>) -> Result<(), ConfigError> {
    let at_least_one = [
        (settings.server.max_body_bytes as u64, ["server", "max_body_bytes"]),
        (settings.server.max_connections as u64, ["server", "max_connections"]),
        (settings.server.max_in_flight as u64, ["server", "max_in_flight"]),
        (settings.server.header_timeout_ms, ["server", "header_timeout_ms"]),
        (settings.server.body_timeout_ms, ["server", "body_timeout_ms"]),
        (settings.model.timeout_ms, ["model", "timeout_ms"]),
        (settings.model.max_concurrency as u64, ["model", "max_concurrency"]),
        (u64::from(settings.model.max_output_tokens), ["model", "max_output_tokens"]),
    ];
    for (value, path) in at_least_one {
        if value == 0 {
            return Err(origins.error(&path, "must be at least 1"));
        }
    }
    let nested = [
        (u64::from(settings.model.budget.per_minute), ["model", "budget", "per_minute"]),
        (u64::from(settings.model.budget.per_session_per_minute), ["model", "budget", "per_session_per_minute"]),
        (u64::from(settings.model.breaker.failures), ["model", "breaker", "failures"]),
        (settings.model.breaker.open_s, ["model", "breaker", "open_s"]),
    ];
    for (value, path) in nested {
        if value == 0 {
            return Err(origins.error(&path, "must be at least 1; to do without a model set `provider = \"builtin\"`"));
        }
    }
    if settings.model.timeout_ms > 600_000 {
        return Err(origins.error(&["model", "timeout_ms"], "must be at most 600000 (ten minutes)"));
    }
    if settings.model.max_concurrency > 100_000 {
        return Err(origins.error(&["model", "max_concurrency"], "must be at most 100000"));
    }
    if !(0.0..=1.0).contains(&settings.model.min_confidence) {
        return Err(origins.error(&["model", "min_confidence"], "must be between 0.0 and 1.0"));
    }
    if settings.model.provider != Provider::Builtin {
        if settings.model.base_url.is_none() {
            return Err(origins
                .error(&["model", "provider"], "this provider needs `model.base_url`, such as \"http://127.0.0.1:11434/v1\""));
        }
        if settings.model.model.as_deref().is_none_or(str::is_empty) {
            return Err(
                origins.error(&["model", "provider"], "this provider needs `model.model`, the name the endpoint knows it by")
            );
        }
    }
    if let Some(url) = &settings.model.base_url
        && !matches!(url.scheme(), "http" | "https")
    {
        return Err(origins.error(&["model", "base_url"], "must begin with http:// or https://"));
    }
    check_guards(&settings.guards, &["guards"], origins)?;
    check_fallback(&settings.fallback, &["fallback"], origins)?;
    for (index, over) in settings.overrides.iter().enumerate() {
        let path = [Segment::Map { key: "override".to_owned() }, Segment::Seq { index }];
        if over.gateway.is_none() && over.platform.is_none() && over.chat.is_none() && over.session.is_none() {
            return Err(origins.error_at(&path, "selects nothing; give at least one of gateway, platform, chat, session"));
        }
        let at = |error: ConfigError| {
            let mut placed = origins.error_at(&path, &error.message);
            placed.key = format!("{}.{}", placed.key, error.key);
            placed
        };
        if let Some(guards) = &over.guards {
            check_guards(guards, &["guards"], origins).map_err(at)?;
        }
        if let Some(fallback) = &over.fallback {
            check_fallback(fallback, &["fallback"], origins).map_err(at)?;
        }
    }
    Ok(())
}

fn check_guards(guards: &super::Guards, section: &[&str], origins: &Origins<'_>) -> Result<(), ConfigError> {
    for (window, key) in [(guards.duplicate_window_s, "duplicate_window_s"), (guards.redelivery_window_s, "redelivery_window_s")]
    {
        if window > MAX_WINDOW_S {
            return Err(origins.error(&[section[0], key], &format!("must be at most {MAX_WINDOW_S} (one hour)")));
        }
    }
    for prefix in &guards.command_prefixes {
        if prefix.is_empty() || prefix.chars().any(|c| c.is_alphanumeric() || c.is_whitespace()) {
            return Err(origins.error(
                &[section[0], "command_prefixes"],
                "a prefix must be one or more signs that are neither letters, digits nor white space, such as \"!\"",
            ));
        }
    }
    Ok(())
}

fn check_fallback(fallback: &super::Fallback, section: &[&str], origins: &Origins<'_>) -> Result<(), ConfigError> {
    if fallback.ignore_with_content == Some(FallbackAction::Ignore) {
        return Err(origins.error(
            &[section[0], "ignore_with_content"],
            "cannot be `ignore`: that is what the review refused, so that no message is lost",
        ));
    }
    if fallback.protected_run == Some(FallbackAction::Interrupt) {
        return Err(origins.error(
            &[section[0], "protected_run"],
            "cannot be `interrupt`: that is what the review refused; empty `guards.protected_tools` instead",
        ));
    }
    Ok(())
}

/// Settings that are allowed together but hardly meant together.
fn contradictions(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.model.provider != Provider::Builtin && settings.server.drain_ms < settings.model.timeout_ms {
        warnings.push(format!(
            "server.drain_ms ({}) is shorter than model.timeout_ms ({}): a shutdown may cut a decision off",
            settings.server.drain_ms, settings.model.timeout_ms
        ));
    }
    if settings.fallback.action == FallbackAction::Ignore {
        warnings.push("fallback.action = \"ignore\" drops messages whenever the model cannot be used".to_owned());
    }
    if settings.journal.include_text && settings.journal.path.is_none() {
        warnings.push("journal.include_text has no effect without journal.path".to_owned());
    }
    warnings
}

fn resolve_paths(settings: &mut Settings, folder: &Path) {
    let paths = [
        &mut settings.server.unix_socket,
        &mut settings.server.tokens_file,
        &mut settings.model.prompt_dir,
        &mut settings.journal.path,
    ];
    for path in paths.into_iter().flatten() {
        if path.is_relative() {
            *path = folder.join(&path);
        }
    }
}

impl Settings {
    /// The settings of the example file, which every load starts from.
    ///
    /// # Errors
    /// Only if the file that was compiled in is broken, which a test rules out.
    pub fn example() -> Result<Self, ConfigError> {
        Sources::default().load().map(|loaded| loaded.settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Action;

    fn sources(env: &[(&str, &str)]) -> Sources {
        Sources {
            file: Some(PathBuf::from("/etc/busy-router/busy-router.toml")),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Sources::default()
        }
    }

    fn refused(text: &str) -> String {
        sources(&[]).load_text(text).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_example_is_the_defaults() {
        let settings = Settings::example().expect("the example parses");
        assert_eq!(settings.mode, Mode::Off);
        assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8710");
        assert_eq!(settings.guards.duplicate_window_s, 30);
        assert_eq!(settings.actions.permission(Action::Ask), super::super::Permission::Off);
    }

    /// Every setting that the example comments out must be real: uncommented, the file still parses.
    #[test]
    fn commented_settings_of_the_example_are_real() {
        for line in EXAMPLE.lines() {
            let Some(setting) = line.strip_prefix("# ").filter(|line| line.contains(" = ")) else { continue };
            let key = setting.split(" = ").next().expect("a key");
            if !key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                continue;
            }
            let section = EXAMPLE[..EXAMPLE.find(line).expect("it stands there")]
                .lines()
                .rev()
                .find_map(|line| line.trim_start_matches("# ").strip_prefix('[')?.split(']').next())
                .expect("a section");
            let mut text = match section {
                "[override" => format!("[[override]]\nplatform = \"x\"\n{}\n", if key == "platform" { "" } else { setting }),
                section => format!("[{section}]\n{setting}\n"),
            };
            if key == "unix_socket" {
                text = text.replace("listen", "# listen");
            }
            sources(&[]).load_text(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_line_and_hint() {
        assert_eq!(
            refused("mode = \"on\"\n\n[model]\ntimeout_mss = 5\n"),
            "/etc/busy-router/busy-router.toml:4: model.timeout_mss: unknown key `timeout_mss`; did you mean `timeout_ms`?"
        );
        assert!(
            refused("[mdoel]\n").contains("toml:1: mdoel: unknown key `mdoel`; did you mean `model`?"),
            "{}",
            refused("[mdoel]\n")
        );
        let inside = refused("[[override]]\nplatform = \"x\"\n\n[[override]]\nplatfrom = \"y\"\n");
        assert!(inside.contains("toml:5: override[1].platfrom: unknown key"), "{inside}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_line_and_hint() {
        let error = refused("\nmode = \"onn\"");
        assert!(error.contains(":2: mode: unknown value `onn`; did you mean `on`?"), "{error}");
        let error = refused("[model]\ntimeout_ms = \"fast\"");
        assert!(error.contains(":2: model.timeout_ms: invalid type"), "{error}");
        let error = refused("[model]\ntimeout_ms = 0");
        assert!(error.contains(":2: model.timeout_ms: must be at least 1"), "{error}");
        let error = refused("[model]\nprovider = \"openai\"");
        assert!(error.contains(":2: model.provider: this provider needs `model.base_url`"), "{error}");
        let error = refused("[fallback]\nignore_with_content = \"ignore\"");
        assert!(error.contains(":2: fallback.ignore_with_content: cannot be `ignore`"), "{error}");
        let error = refused("[state]\nbackend = \"valkey\"");
        assert!(error.contains(":2: state.backend: unknown value `valkey`"), "{error}");
        let error = refused("mode = ");
        assert!(error.contains("toml:1: "), "{error}");
    }

    #[test]
    fn environment_overrides_the_file_and_flags_override_both() {
        let mut sources = sources(&[
            ("BUSY_ROUTER_MODE", "shadow"),
            ("BUSY_ROUTER_LISTEN", "127.0.0.1:1"),
            ("BUSY_ROUTER_MODEL__TIMEOUT_MS", "400"),
            ("BUSY_ROUTER_MODEL__MODEL", "4"),
            ("BUSY_ROUTER_TOKEN", "secret"),
            ("BUSY_ROUTER_GUARDS__PROTECTED_TOOLS", "[\"deploy\"]"),
        ]);
        let loaded = sources.load_text("mode = \"on\"\n[model]\ntimeout_ms = 100").expect("loads");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert_eq!(loaded.settings.mode, Mode::Shadow);
        assert_eq!(loaded.settings.server.listen.port(), 1);
        assert_eq!(loaded.settings.model.timeout_ms, 400);
        assert_eq!(loaded.settings.model.model.as_deref(), Some("4"));
        assert_eq!(loaded.settings.guards.protected_tools, ["deploy"]);
        sources.mode = Some(Mode::On);
        sources.listen = Some("127.0.0.1:2".to_owned());
        let settings = sources.load_text("").expect("loads").settings;
        assert_eq!((settings.mode, settings.server.listen.port()), (Mode::On, 2));
    }

    #[test]
    fn environment_mistakes_are_named() {
        let loaded = sources(&[("BUSY_ROUTER_MODEL__BASEURL", "x"), ("BUSY_ROUTER_MODE__X", "y")]).load_text("").expect("loads");
        assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
        assert!(loaded.warnings.iter().any(|warning| warning.contains("did you mean `base_url`?")), "{:?}", loaded.warnings);
        let error = sources(&[("BUSY_ROUTER_MODE", "maybe")]).load_text("").expect_err("refused").to_string();
        assert!(error.starts_with("BUSY_ROUTER_MODE: mode: unknown value `maybe`"), "{error}");
    }

    #[test]
    fn an_override_is_completed_from_the_base() {
        let text =
            "[guards]\nignore_max_chars = 7\n[[override]]\nplatform = \"telegram\"\n[override.guards]\nambient = \"ignore\"\n";
        let settings = sources(&[]).load_text(text).expect("loads").settings;
        let guards = settings.overrides[0].guards.clone().expect("guards");
        assert_eq!(guards.ignore_max_chars, 7);
        assert_eq!(guards.ambient, super::super::AmbientAction::Ignore);
        assert!(refused("[[override]]\nmode = \"on\"").contains("selects nothing"));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let settings = sources(&[]).load_text("[journal]\npath = \"d.jsonl\"").expect("loads").settings;
        assert_eq!(settings.journal.path.as_deref(), Some(Path::new("/etc/busy-router/d.jsonl")));
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "[model]\nbase_url = \"http://me:hunter2@127.0.0.1/v1\"\n[model.extra_body]\napi_key = \"hunter2\"\n";
        let shown = sources(&[]).load_text(text).expect("loads").settings.redacted();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
