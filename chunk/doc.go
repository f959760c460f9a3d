// Package chunk says what a chunk is: how a stream of bytes is cut into chunks, what identifies one, and how its bytes
// are stored. It works on byte slices only: no I/O, no goroutines.
//
// To write, cut with [NewGear] (or [NewFixed] for data that only changes in place), name each chunk with an
// [Identifier], and store what [Encoder.Encode] returns beside its [Codec]. To read, call [Decoder.Decode] with the
// codec and the plain size, then [Identifier.Verify]: a Decoder finds damage to the encoding, only the identity
// vouches for the content. A chunk that differs little from another may be stored as a [Delta] with
// [Encoder.EncodeDelta]; it is read with [Decoder.DecodeDelta], after the chunk that [DeltaBase] names.
//
// A [Gear] and a [Fixed] never change after they are made and may be shared. An Identifier, an Encoder and a Decoder
// hold buffers and belong to one goroutine at a time; keep one of each for every worker. In a steady state no call
// allocates, as long as the destination slices have room; those for deltas allocate little, and
// encoding with pauses some bytes.
//
// # Format
//
// What follows is part of the repository format and never changes within it: a chunk holds 1 to [MaxSize] plain bytes;
// its [ID] is BLAKE3-256 of them, keyed or not; codecs have fixed numbers; a stored form is never longer than the plain
// bytes, and is shorter unless the codec is [Raw]. Where Gear cuts is fixed too, for the same parameters and
// secret, since other cuts would store everything again. A reader does not depend on it.
package chunk
