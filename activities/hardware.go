package activities

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// hardware names the processor and its cores: "AMD EPYC 9654, 8 cores, linux/amd64".
// An accelerator stands in the engine's name.
func hardware() string {
	model := ""
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err == nil { // Linux alone has it
		for line := range strings.Lines(string(raw)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s/%s", cmp.Or(model, "unknown processor"), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}
