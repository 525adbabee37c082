package farm

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
)

// A body looks to the eye like what System.Web sends (little-endian timeout,
// two flags, 0xff at the end) and says whose it is and which save wrote it:
//
//	 0  timeout     4
//	 4  flags       2   zero
//	 6  magic       4   "FARM"
//	10  length      4   of the whole body
//	14  run         8   which farm
//	22  session     4   number of the session within the farm
//	26  app         2   number of the application
//	28  session ID 24
//	52  generation  4   incarnation of the session
//	56  save        8   number of the save within the session
//	64  page        8   number of the page that wrote it
//	72  filler          a piece of the common filler, from an offset given by save
//	-5  checksum    4   CRC-32C of all before
//	-1  0xff
const (
	offMagic      = 6
	offLength     = 10
	offRun        = 14
	offSession    = 22
	offApp        = 26
	offID         = 28
	offGeneration = 52
	offSave       = 56
	offPage       = 64
	offFiller     = 72
	trailer       = 5

	minBody = offFiller + trailer
)

const magic = "FARM"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// filler is what bodies are filled with: the same pseudo-random bytes in every
// run, cut out rather than computed, for a farm must be faster than its server.
var filler = func() []byte {
	b := make([]byte, 64<<10)
	random := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], random.Uint64())
	}
	return b
}()

// stamp is what a body says of itself.
type stamp struct {
	run        uint64
	session    uint32
	app        uint16
	id         [idLen]byte
	generation uint32
	save       uint64
	page       uint64
}

// appendBody appends a body of size bytes with the stamp st to dst.
func appendBody(dst []byte, st *stamp, timeout, size int) []byte {
	start := len(dst)
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(timeout))
	dst = append(dst, 0, 0)
	dst = append(dst, magic...)
	dst = le.AppendUint32(dst, uint32(size))
	dst = le.AppendUint64(dst, st.run)
	dst = le.AppendUint32(dst, st.session)
	dst = le.AppendUint16(dst, st.app)
	dst = append(dst, st.id[:]...)
	dst = le.AppendUint32(dst, st.generation)
	dst = le.AppendUint64(dst, st.save)
	dst = le.AppendUint64(dst, st.page)

	from := int(st.save*977) % len(filler)
	for left := size - minBody; left > 0; {
		piece := filler[from:min(len(filler), from+left)]
		dst = append(dst, piece...)
		left -= len(piece)
		from = 0
	}
	dst = le.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	return append(dst, 0xff)
}

// parseBody reads a body's stamp. If the body is not, byte for byte, one that
// a farm wrote, why says what is wrong with it; else it is empty.
func parseBody(b []byte) (st stamp, why string) {
	le := binary.LittleEndian
	if len(b) < minBody {
		return st, "too short"
	}
	if !bytes.Equal(b[offMagic:offLength], []byte(magic)) {
		return st, "not written by a farm"
	}
	if n := le.Uint32(b[offLength:]); uint64(n) != uint64(len(b)) {
		return st, "length differs from what was saved"
	}
	end := len(b) - trailer
	if b[len(b)-1] != 0xff || le.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return st, "checksum does not match"
	}
	st = stamp{
		run:        le.Uint64(b[offRun:]),
		session:    le.Uint32(b[offSession:]),
		app:        le.Uint16(b[offApp:]),
		generation: le.Uint32(b[offGeneration:]),
		save:       le.Uint64(b[offSave:]),
		page:       le.Uint64(b[offPage:]),
	}
	copy(st.id[:], b[offID:])
	return st, ""
}
