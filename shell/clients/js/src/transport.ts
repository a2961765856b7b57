// A connection to the daemon, as the rest sees it: by WebSocket here, by server-sent events in sse.ts.

import type { Message, Topic, From } from "./protocol.js";

/** What begins a connection. */
export interface Hello {
  /** Which of this page's calls it is: one that was given up must not replace a later one. */
  call: { by: string; n: number };
  device?: string;
  from?: From;
  topics?: Topic[];
  window?: number;
  ack?: false;
}

export interface Wire {
  message(message: Message): void;
  /** Something was heard, of whatever kind. */
  alive(): void;
  /** The connection is over, for the reason that the code says; called once. */
  closed(code: number, reason: string): void;
}

export interface Transport {
  send(message: Message): void;
  /** Leaves, without waiting for the other side: a dead peer would not answer. Nothing is told afterwards. */
  leave(): void;
}

/** As much of a WebSocket as is used, so that others than the browser's do: `ws` for Node 20. */
export interface Socket {
  onopen: unknown;
  onmessage: unknown;
  onclose: unknown;
  onerror: unknown;
  send(data: string): void;
  close(): void;
}
export type SocketMaker = new (url: string, protocols: string[]) => Socket;

/** Opens a WebSocket; the token goes in the subprotocol, since a browser can set no header. */
export function openSocket(make: SocketMaker, base: URL, token: string, hello: Hello, wire: Wire): Transport {
  const url = new URL("ws", base);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new make(url.href, ["runcast.v1", `jwt.${token}`]);
  const send = (message: object) => socket.send(JSON.stringify(message));
  socket.onopen = () => send({ type: "hello", ...hello });
  socket.onmessage = ({ data }: { data: unknown }) => {
    wire.alive();
    let message;
    try {
      message = JSON.parse(data as string);
    } catch {
      return wire.closed(1007, "the server sent what is no JSON");
    }
    wire.message(message);
  };
  socket.onclose = ({ code, reason }: { code: number; reason: string }) => wire.closed(code, reason);
  socket.onerror = () => {}; // a close follows, and says all that is known
  return {
    send,
    leave() {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    },
  };
}
