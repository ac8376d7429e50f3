//! What is asked of Nix as command lines, and what it answers as values.
