//go:build !cgo || !linux || !(amd64 || arm64)

package lm

import "fmt"

func openONNX() (*Engine, error) {
	return nil, fmt.Errorf("engine onnx: %w: this program was built without cgo", ErrEngineMissing)
}

func openXLA(plugin string) (*Engine, error) {
	return nil, fmt.Errorf("engine xla:%s: %w: this program was built without cgo", plugin, ErrEngineMissing)
}
