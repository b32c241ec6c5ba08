package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/engines"
)

func (a *app) engineCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "engine",
		Short: "List the engines that compute, and install the libraries they need",
	}
	c.AddCommand(a.engineListCommand(), a.engineInstallCommand())
	return c
}

func (a *app) engineListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Say which engines work here",
		Long: `Open every engine, have it compute a small graph, and print its version or what
is missing. Variables and paths: esclab doctor.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.engineList(c.OutOrStdout()) },
	}
}

func (a *app) engineList(out io.Writer) error {
	s, err := a.loadSettings()
	if err != nil {
		return err
	}
	for _, name := range lm.EngineNames() {
		engine, err := lm.EngineOptions{DataDir: s.Embedded.DataDir}.Open(name)
		var missing *lm.EngineError
		switch {
		case err == nil:
			fmt.Fprintf(out, "%-9s yes  %s\n", name, engine.Version)
			engine.Close()
		case errors.As(err, &missing):
			fmt.Fprintf(out, "%-9s no   %s\n", name, missing.Remedy)
		default:
			return failed(err)
		}
	}
	return nil
}

func (a *app) engineInstallCommand() *cobra.Command {
	var from, source string
	c := &cobra.Command{
		Use:   "install onnx|xla:cpu",
		Short: "Install an engine's library into the data directory",
		Long: `Install the shared library of engine onnx or xla:cpu below the data directory, and
try it. Its version and SHA-256 are remembered, and compared whenever it is opened.

onnx: ONNX Runtime (CPU, MIT licence). It is fetched by GoMLX's own installer, which
takes the release on GitHub, or, where that cannot be reached, from the npm package
onnxruntime-node, from the registry that npm is configured for. Of the npm
package no script is run; the tarball's SHA-512 is compared with the registry's
and with the one this program was tested with. ONNXRUNTIME_SHARED_LIBRARY_PATH,
where set, comes before what is installed.

xla:cpu: a PJRT plugin of XLA (Apache-2.0, linux/amd64, 202 MB) out of the wheel
lammps-jax-pjrt-cpu, from the index that pip is configured for. Nothing of the
wheel is run; its SHA-256 is compared with that of the one this program was tested
with. PJRT_PLUGIN_LIBRARY_PATH, where set, comes before what is installed.`,
		Example: `  esclab engine install onnx
  esclab engine install onnx --source npm
  esclab engine install onnx --from onnxruntime-linux-x64-1.30.0.tgz
  esclab engine install xla:cpu`,
		Args: cobra.MatchAll(cobra.ExactArgs(1), func(_ *cobra.Command, args []string) error {
			if args[0] != "onnx" && args[0] != "xla:cpu" {
				return fmt.Errorf("engine %q: only onnx and xla:cpu can be installed; esclab doctor says what the others need", args[0])
			}
			return nil
		}),
		RunE: func(c *cobra.Command, args []string) error {
			return a.engineInstall(c.Context(), args[0], from, source, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&from, "from", "", "a library, or a tarball or wheel with one, on this machine")
	c.Flags().StringVar(&source, "source", engines.SourceAuto, "of onnx: auto, gomlx or npm")
	c.MarkFlagsMutuallyExclusive("from", "source")
	return c
}

func (a *app) engineInstall(ctx context.Context, name, from, source string, out io.Writer) error {
	s, err := a.loadSettings()
	if err != nil {
		return err
	}
	install := engines.InstallONNX
	if name == "xla:cpu" {
		install = engines.InstallXLACPU
	}
	library, err := install(ctx, s.Embedded.DataDir, engines.Options{
		From: from, Source: source, Registry: engines.Registry(os.Getenv), Index: engines.Index(os.Getenv),
		Log: func(line string) { a.log.Info().Msg(line) },
	})
	if err != nil {
		return failed(err)
	}
	fmt.Fprintf(out, "installed %s, SHA-256 %s\n", library.Source, library.SHA256)
	engine, err := lm.EngineOptions{DataDir: s.Embedded.DataDir}.Open(name)
	if err != nil {
		return failed(fmt.Errorf("it is installed, but does not work here: %w", err))
	}
	defer engine.Close()
	fmt.Fprintf(out, "engine %s works: %s\n", name, engine.Version)
	return nil
}

// openEngine opens an engine that a flag names, with the libraries installed
// below the data directory.
func (a *app) openEngine(name string) (*lm.Engine, error) {
	s, err := a.loadSettings()
	if err != nil {
		return nil, err
	}
	return lm.EngineOptions{DataDir: s.Embedded.DataDir}.Open(name)
}
