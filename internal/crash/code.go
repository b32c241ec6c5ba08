package crash

// ExitCode is that of a process that has crashed.
const ExitCode = 4
