// Internet is every public server that a test wants: each answers with the address that it sees, so
// that whoever asks learns by which way it came. Over IPv4 and IPv6, on all addresses of its host:
//
//	TCP 80   GET / answers "ADDRESS\n"; GET /bytes/N answers N bytes; POST / answers
//	         "ADDRESS COUNT\n" once it has read all of them
//	UDP 7    answers each datagram with itself, and UDP 443 too, which stands in for QUIC
//	UDP 9    answers each datagram with "ADDRESS\n"
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
)

func main() {
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, address(r))
	})
	http.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		count, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		fmt.Fprintln(w, address(r), count)
	})
	http.HandleFunc("GET /bytes/{count}", func(w http.ResponseWriter, r *http.Request) {
		count, err := strconv.ParseInt(r.PathValue("count"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(count, 10))
		io.CopyN(w, zeros{}, count)
	})
	itself := func(_ net.Addr, datagram []byte) []byte { return datagram }
	go serve(":7", itself)
	go serve(":443", itself)
	go serve(":9", func(from net.Addr, _ []byte) []byte {
		host, _, _ := net.SplitHostPort(from.String())
		return []byte(host + "\n")
	})
	log.Fatal(http.ListenAndServe(":80", nil))
}

func address(r *http.Request) string {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return host
}

// serve answers from the address that was asked, which a socket bound to no address does not do by
// itself on a host with several: it takes one socket for each of them.
func serve(port string, answer func(net.Addr, []byte) []byte) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		log.Fatal(err)
	}
	for _, each := range addresses {
		ip := each.(*net.IPNet).IP
		if ip.IsLinkLocalUnicast() {
			continue
		}
		socket, err := net.ListenPacket("udp", net.JoinHostPort(ip.String(), port[1:]))
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			buffer := make([]byte, 65536)
			for {
				count, from, err := socket.ReadFrom(buffer)
				if err != nil {
					log.Fatal(err)
				}
				// Whoever has no way back to it is no reason to end.
				_, _ = socket.WriteTo(answer(from, buffer[:count]), from)
			}
		}()
	}
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) {
	clear(into)
	return len(into), nil
}
