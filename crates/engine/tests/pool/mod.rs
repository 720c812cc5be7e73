//! The pool in full: what it does when something runs out, what it gives back and when, what it never
//! touches, and what it takes away that nobody else would.

mod block;
mod collect;
mod exhaustion;
mod heal;
mod ipvlan;
mod member;
mod own;
mod prefix;
mod refusals;
mod shape;
mod sticky;
mod strangers;
mod trunk;
mod unsure;
