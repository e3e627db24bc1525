package podman

import (
	"encoding/binary"
)

// echoProgram returns a Linux executable of a few hundred bytes that copies stdin
// to stdout and then exits with 0. A container that runs it needs no image, no
// registry and nothing of the host. echoProgram returns nil for an architecture
// that it has no code for.
func echoProgram(arch string) []byte {
	var code []byte
	var machine uint16
	switch arch {
	case "amd64":
		machine, code = 62, []byte{
			0x31, 0xff, // loop: xor edi, edi
			0x48, 0x8d, 0xb4, 0x24, 0x00, 0xff, 0xff, 0xff, // lea rsi, [rsp-256]
			0xba, 0x80, 0x00, 0x00, 0x00, // mov edx, 128
			0x31, 0xc0, // xor eax, eax (read)
			0x0f, 0x05, // syscall
			0x85, 0xc0, // test eax, eax
			0x7e, 0x10, // jle done
			0x89, 0xc2, // mov edx, eax
			0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
			0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1 (write)
			0x0f, 0x05, // syscall
			0xeb, 0xd9, // jmp loop
			0x31, 0xff, // done: xor edi, edi
			0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60 (exit)
			0x0f, 0x05, // syscall
		}
	case "arm64":
		machine = 183
		for _, word := range []uint32{
			0xaa1f03e0, // loop: mov x0, xzr
			0xd10403e1, // sub x1, sp, #256
			0xb27903e2, // mov x2, #128
			0xb24017e8, // mov x8, #63 (read)
			0xd4000001, // svc #0
			0xf100001f, // cmp x0, #0
			0x540000cd, // b.le done
			0xaa0003e2, // mov x2, x0
			0xb24003e0, // mov x0, #1
			0xb27a03e8, // mov x8, #64 (write)
			0xd4000001, // svc #0
			0x17fffff5, // b loop
			0xaa1f03e0, // done: mov x0, xzr
			0xd2800ba8, // mov x8, #93 (exit)
			0xd4000001, // svc #0
		} {
			code = binary.LittleEndian.AppendUint32(code, word)
		}
	default:
		return nil
	}
	return elf(machine, code)
}

// elf returns code as a minimal 64-bit executable: a file header, one segment
// that maps the whole file, and the code.
func elf(machine uint16, code []byte) []byte {
	const base, headers = 0x400000, 64 + 56
	le := binary.LittleEndian
	size := uint64(headers + len(code))
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = le.AppendUint16(b, 2) // executable
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+headers) // entry
	b = le.AppendUint64(b, 64)           // program headers follow
	b = le.AppendUint64(b, 0)            // no sections
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // load
	b = le.AppendUint32(b, 5) // readable, executable
	for _, v := range []uint64{0, base, base, size, size, 0x10000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, code...)
}
