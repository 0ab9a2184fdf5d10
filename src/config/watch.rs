//! Reload while running.
