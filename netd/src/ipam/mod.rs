//! IPAM: addresses and subnets, chosen and checked. Pure.
