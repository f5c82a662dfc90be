//! What is said of memory on the heap is true: every allocation of this process is counted, so its tests run one after the other.

mod counting;
mod sound_memory;
mod vocoder_memory;
