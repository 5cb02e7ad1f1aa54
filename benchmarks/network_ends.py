"""
Both ends of what `network.py` measures: programs of their own, which need nothing but the standard library.
"""

__all__ = ["CLIENT", "SERVER"]

# Two ports: one says a byte back; at the other the first nine bytes say a direction and how much. Prints the ports.
SERVER = """
import select, socket, struct, threading, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
echo = socket.create_server(("127.0.0.1", 0), backlog=4096)
bulk = socket.create_server(("127.0.0.1", 0), backlog=64)
print(echo.getsockname()[1], bulk.getsockname()[1], flush=True)

def serve_bulk(sock):
    with sock:
        head = b""
        while len(head) < 9:
            head += sock.recv(9 - len(head))
        direction, size = struct.unpack("!cQ", head)
        block = memoryview(bytearray(1 << 20))
        while size and direction == b"d":
            size -= sock.send(block[:size])
        while size and direction == b"u":
            size -= sock.recv_into(block)
        sock.sendall(b"e")
        sock.recv(1)

def accept_bulk():
    while True:
        threading.Thread(target=serve_bulk, args=(bulk.accept()[0],), daemon=True).start()

threading.Thread(target=accept_bulk, daemon=True).start()
poll, socks = select.epoll(), {}
poll.register(echo.fileno(), select.EPOLLIN)
while True:
    for fd, _ in poll.poll():
        if fd == echo.fileno():
            sock, _ = echo.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            socks[sock.fileno()] = sock
            poll.register(sock.fileno(), select.EPOLLIN)
            continue
        try:
            data = socks[fd].recv(64)
            if data:
                socks[fd].send(data)
                continue
        except OSError:
            pass
        poll.unregister(fd)
        socks.pop(fd).close()
"""

# Told a line, does it, and prints a number: nanoseconds, or of `hold` how many connections answered.
CLIENT = """
import socket, struct, sys, threading, time
host, echo, bulk = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def connect(count):
    for _ in range(count):
        with socket.create_connection((host, echo), 30) as sock:
            sock.sendall(bytes(1))
            if sock.recv(1) != bytes(1):
                raise OSError("nothing came back")

def stream(direction, size):
    with socket.create_connection((host, bulk), 30) as sock:
        block = memoryview(bytearray(1 << 20))
        sock.sendall(struct.pack("!cQ", direction, size))
        while size and direction == b"u":
            size -= sock.send(block[:size])
        while size and direction == b"d":
            size -= sock.recv_into(block[:size] if size < len(block) else block)
        if sock.recv(1) != b"e":
            raise OSError("it was cut")

def streams(direction, count, size):
    threads = [threading.Thread(target=stream, args=(direction, size // count)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def hold(count):
    socks, good = [], 0
    try:
        for _ in range(count):
            socks.append(socket.create_connection((host, echo), 30))
        for sock in socks:
            sock.sendall(bytes(1))
        for sock in socks:
            good += sock.recv(1) == bytes(1)
    except OSError:
        pass
    for sock in socks:
        sock.close()
    return good

print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    began = time.monotonic_ns()
    try:
        if words[0] == "connect":
            connect(int(words[1]))
        elif words[0] == "hold":
            print(hold(int(words[1])), flush=True)
            continue
        else:
            streams(words[0][:1].encode(), int(words[1]), int(words[2]))
        print(time.monotonic_ns() - began, flush=True)
    except OSError as exc:
        print(exc, flush=True)
"""
