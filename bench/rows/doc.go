// Package rows makes data like a database's, from a seed: the rows and files
// that the benchmarks, the torture tests and the demo of holdstill work on.
//
// Start with [New] and [Generator.Row] for single rows, with [Kinds] for whole
// files of the usual kinds, and with [Changed] to choose the rows of a second
// generation.
//
// The same seed gives the same bytes on every machine and in every run: only
// integers are used, and a test pins digests. Rows hold what rows hold: names and
// words of skewed popularity, e-mail addresses, timestamps that go up, numbers,
// identifiers, and tokens and hashes that no codec can shrink. zstd at its fastest
// level leaves 30 to 50 % of them, which is what it leaves of real databases, and
// no block repeats.
package rows
