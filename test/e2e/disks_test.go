//go:build linux

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// disks are small file systems that a test can freeze or fill.
type disks struct {
	t    testing.TB
	base string
	made func(path string) error

	mu     sync.Mutex
	paths  map[string]string
	frozen map[string]bool
}

// newDisks prepares file systems. They are unmounted after everything that was
// started later has ended. It skips the test if nothing can be mounted.
func newDisks(t testing.TB, made func(path string) error) *disks {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	d := &disks{t: t, base: t.TempDir(), made: made, paths: map[string]string{}, frozen: map[string]bool{}}
	t.Cleanup(func() {
		for name, path := range d.paths {
			if err := syscall.Unmount(path, 0); err != nil {
				t.Errorf("unmount the disk of %s: %v", name, err)
				_ = syscall.Unmount(path, syscall.MNT_DETACH)
			}
		}
	})
	if probe := filepath.Join(d.base, "probe"); d.mount(probe) != nil {
		t.Skipf("no such file system can be mounted here: %v", d.mount(probe))
	} else if err := syscall.Unmount(probe, 0); err != nil {
		t.Fatal(err)
	}
	return d
}

// extDisk creates an ext4 file system in a file.
func extDisk(path string) error {
	image := path + ".img"
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(48<<20), f.Close())
	}
	if err != nil {
		return err
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	if out, err := exec.Command("mount", "-o", "loop", image, path).CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}

// memoryDisk creates a file system of 8 MiB in memory.
func memoryDisk(path string) error { return syscall.Mount("tmpfs", path, "tmpfs", 0, "size=8m") }

func (d *disks) mount(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return d.made(path)
}

// path returns where a disk is mounted. The first call creates the disk.
func (d *disks) path(name string) string {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	path := d.paths[name]
	if path == "" {
		path = filepath.Join(d.base, name)
		if err := d.mount(path); err != nil {
			d.t.Fatalf("mount a disk for %s: %v", name, err)
		}
		d.paths[name] = path
	}
	return path
}

// The ioctl requests that freeze and thaw a file system.
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// freeze makes all writes to a disk hang until thaw.
func (d *disks) freeze(name string) {
	d.t.Helper()
	if err := d.control(name, fiFreeze); err != nil {
		d.t.Fatalf("freeze the disk of %s: %v", name, err)
	}
	d.frozen[name] = true
}

func (d *disks) thaw(name string) {
	d.t.Helper()
	if !d.frozen[name] {
		return
	}
	if err := d.control(name, fiThaw); err != nil {
		d.t.Errorf("thaw the disk of %s: %v", name, err)
	}
	delete(d.frozen, name)
}

func (d *disks) control(name string, request uint) error {
	f, err := os.Open(d.path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetInt(int(f.Fd()), request, 0)
}

// thawAll thaws all disks, since a program cannot end while it waits for its disk.
func (d *disks) thawAll() {
	for name := range d.frozen {
		d.thaw(name)
	}
}

// fill uses all space of a disk, until free is called.
func (d *disks) fill(name string) {
	d.t.Helper()
	f, err := os.Create(d.ballast(name))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		block := make([]byte, size)
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			d.t.Fatalf("fill the disk of %s: %v", name, err)
		}
	}
}

func (d *disks) free(name string) {
	d.t.Helper()
	if err := os.Remove(d.ballast(name)); err != nil {
		d.t.Error(err)
	}
}

func (d *disks) ballast(name string) string { return filepath.Join(d.path(name), "ballast") }
