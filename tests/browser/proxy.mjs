// What stands between people and daemons: a proxy that cuts connections on which nothing is said, that lets
// no WebSocket through, or that stops passing anything on without a word.

import { connect, createServer } from "node:net";

export class Proxy {
  /** How many connections it has cut, and how many WebSockets it has refused. */
  cuts = 0;
  refusals = 0;
  #pairs = new Set();
  #held = false;

  /** `to` gives the daemon's port; `silence_ms`: how long a connection may be silent; `blocks`: no
   *  WebSockets. */
  constructor(to, { silence_ms, blocks = false } = {}) {
    Object.assign(this, { to, silence_ms, blocks });
    this.server = createServer((client) => this.#meet(client));
  }

  async start() {
    await new Promise((ready) => this.server.listen(0, "127.0.0.1", ready));
    this.port = this.server.address().port;
  }

  async end() {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    await new Promise((gone) => this.server.close(gone));
  }

  /** Everything that is sent is lost, and nobody is told: as when a cable is pulled out. */
  hold() {
    this.#held = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  /** New connections pass again; those of before are dead. */
  release() {
    this.#held = false;
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  #meet(client) {
    client.on("error", () => client.destroy());
    if (this.#held) client.pause();
    client.once("data", (head) => {
      if (this.blocks && /^upgrade: *websocket/im.test(head.toString("latin1"))) {
        this.refusals += 1;
        return client.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      }
      this.#join(client, head);
    });
    this.#pairs.add([client]);
  }

  #join(client, head) {
    const server = connect(this.to(), "127.0.0.1");
    const pair = [client, server];
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      for (const socket of pair) socket.destroy();
    };
    let timer;
    const heard = () => {
      clearTimeout(timer);
      if (this.silence_ms === undefined) return;
      timer = setTimeout(() => {
        this.cuts += 1;
        end();
      }, this.silence_ms);
    };
    heard();
    server.write(head);
    for (const [from, to] of [pair, pair.toReversed()]) {
      from.on("data", (data) => {
        heard();
        to.write(data);
      });
      from.on("error", end);
      from.on("close", () => {
        clearTimeout(timer);
        end();
      });
    }
  }
}
