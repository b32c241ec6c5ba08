// This file is empty on purpose: its presence lets the Go compiler accept the
// functions of hook.go that have no body because the linker resolves them.
