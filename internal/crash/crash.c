#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// What is said at a crash, and the file for the rest. Go writes them while nothing crashes.
static char said[8192];
static volatile sig_atomic_t size, status, file;

void crash_say(const char *text, int length, int code, int fd) {
	if (length > (int)sizeof said)
		length = sizeof said;
	size = 0;
	if (length > 0)
		memcpy(said, text, length);
	status = code;
	file = fd;
	size = length;
}

// Where nothing is to be said, the Go runtime goes on to die of the signal.
static void aborted(int sig) {
	if (size == 0)
		return;
	if (write(STDERR_FILENO, said, size) < 0) {
		// nobody listens
	}
	_exit(status);
}

// A fault in C code ends as an abort does: the Go runtime writes its stacks where
// the thread is one of its own, and ends in aborted. On a thread that C has started
// the runtime would die of the fault without a word.
static void faulted(int sig, siginfo_t *info, void *context) {
	if (size == 0) {
		signal(sig, SIG_DFL); // the fault comes again
		return;
	}
	char line[128];
	const char *name = sig == SIGSEGV ? "SIGSEGV" : sig == SIGBUS ? "SIGBUS" : sig == SIGFPE ? "SIGFPE" : "SIGILL";
	int n = snprintf(line, sizeof line, "%s in C code, address %p\n", name, info->si_addr);
	if (write(file, line, n) < 0) {
		// the file system is full
	}
	raise(SIGABRT);
}

// Handlers that are there before the Go runtime begins are those that it passes
// its own SIGABRT on to, last of all, and faults outside of Go code.
__attribute__((constructor)) static void install(void) {
	struct sigaction action = {.sa_handler = aborted, .sa_flags = SA_ONSTACK};
	sigemptyset(&action.sa_mask);
	sigaction(SIGABRT, &action, NULL);
	struct sigaction fault = {.sa_sigaction = faulted, .sa_flags = SA_ONSTACK | SA_SIGINFO};
	sigemptyset(&fault.sa_mask);
	const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		sigaction(faults[i], &fault, NULL);
}
