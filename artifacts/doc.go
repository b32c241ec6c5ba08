// Package artifacts is the store: it keeps the immutable results of stages,
// the checkpoints of unfinished ones and the small files of runs on a [Backend],
// and gives back only bytes whose SHA-256 it has checked. Package s3 below it is
// the backend that programs use; storetest has one on a directory for tests.
//
// # Layout
//
//	blobs/sha256/ab/abcd…                                content, named by its digest, immutable
//	stages/<fingerprint>/manifest.json                   the artifact of a stage, written last
//	stages/<fingerprint>/provenance.json                 who made it and when; differs between executions
//	stages/<fingerprint>/leases/<token>.json             who may write; the highest token wins
//	stages/<fingerprint>/checkpoints/<step>-<token>/…    resumable state, marker.json written last
//	stages/<fingerprint>/checkpoints/latest.json         which one is the newest, should a list lag behind
//	runs/<workflow id>/…                                 files of one run (run.json is what it leaves of itself), each with a .sha256 beside it
//	schedules/<id>/…                                     a schedule's experiments and nights, likewise
//	cache/<space>/ab/<key>.json                          what an expensive question was answered with
//	gc/…                                                 what a garbage collection under way is about to remove
//
// # What holds
//
// An object is whole or absent: backends write it under another name and
// publish it in one step. A manifest is written after its blobs and a marker
// after its files, so whatever a crash leaves behind is either complete or not
// there. Manifests and markers carry their own digest and name the digest of
// everything they point at; a flipped bit, a truncated file or a missing
// object is reported as a typed error (ErrCorrupt, ErrDamaged), never as data.
//
// Writers of a stage are fenced by a [Lease]: each takeover raises the token,
// and a writer that finds a higher token than its own gets ErrLeaseLost.
//
// What nobody needs stays until [Store.Collect] removes it, which may run beside
// everything else; collections.go says why. [Store.Audit] reads everything again.
package artifacts
