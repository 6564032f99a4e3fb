//! xtask as a program, and the rules of the workspace.
#![allow(clippy::unwrap_used)]

mod reproduce;
mod rules;
