//! The niks3 client.
