//go:build cgo

// Package faults crashes its process in C, for tests: a test file cannot hold C.
package faults

/*
#include <pthread.h>
#include <stdlib.h>

static void fault(void) { *(volatile int *)8 = 1; }
static void *thread(void *unused) { fault(); return unused; }
static void fault_on_thread(void) { pthread_t t; pthread_create(&t, NULL, thread, NULL); }
*/
import "C"

// Fault writes to an address that is not mapped.
func Fault() { C.fault() }

// FaultOnThread does so on a thread that Go knows nothing of.
func FaultOnThread() { C.fault_on_thread() }

// Abort calls C's abort.
func Abort() { C.abort() }
