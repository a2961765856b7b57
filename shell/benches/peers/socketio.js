// The peer socket.io, with a room for each user and connection state recovery, as its documentation builds them.
//
// A device says its user with its handshake and gets `event`s. A publisher says that it is one, and emits `publish` with
// the user and the event. The first line of output is the address; the end of standard input ends it.
'use strict';

const http = require('node:http');
const { Server } = require('socket.io');

const server = http.createServer();
const io = new Server(server, {
  connectionStateRecovery: { maxDisconnectionDuration: 2 * 60 * 1000, skipMiddlewares: true },
});
// Saves memory, as its page on performance says.
io.engine.on('connection', (rawSocket) => {
  rawSocket.request = null;
});

io.on('connection', (socket) => {
  const { user } = socket.handshake.auth;
  if (user === undefined) {
    socket.on('publish', (to, event) => io.to(to).emit('event', event));
  } else if (!socket.recovered) {
    socket.join(user);
  }
});

server.listen(0, '127.0.0.1', () => {
  const { address, port } = server.address();
  console.log(`${address}:${port}`);
});
process.stdin.on('end', () => process.exit(0)).resume();
