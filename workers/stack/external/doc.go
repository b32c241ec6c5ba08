// Package external tests that temporal.yaml alone decides where Temporal and
// S3 are: the same steps run on the embedded stack, on servers in processes of
// their own, and on one of each.
//
// ESCLAB_TEST_TEMPORAL and ESCLAB_TEST_VERSITYGW, or the PATH, name the
// programs temporal (run as "temporal server start-dev") and versitygw. Where
// one is not installed, the test runs that server's own packages in a process
// of the test's.
package external
