// The peer `ws`: a WebSocket server as its documentation builds one, with a set of sockets for each user.
//
// A device connects to /devices/USER and gets that user's events, a text message each. A publisher connects to /publish
// and sends {"user", "event"}. The first line of output is the address; the end of standard input ends it.
'use strict';

const http = require('node:http');
const { WebSocket, WebSocketServer } = require('ws');

const server = http.createServer();
// Compression is off by default, and its documentation advises against it for many small messages.
const wss = new WebSocketServer({ server });
const users = new Map();

wss.on('connection', (ws, request) => {
  ws.on('error', console.error);
  if (request.url === '/publish') {
    ws.on('message', (data) => {
      const { user, event } = JSON.parse(data);
      const text = JSON.stringify(event);
      for (const device of users.get(user) ?? []) {
        if (device.readyState === WebSocket.OPEN) device.send(text);
      }
    });
    return;
  }
  const user = request.url.slice('/devices/'.length);
  const devices = users.get(user) ?? new Set();
  users.set(user, devices.add(ws));
  ws.on('close', () => devices.delete(ws));
  ws.send('{"type":"ready"}');
});

server.listen(0, '127.0.0.1', () => {
  const { address, port } = server.address();
  console.log(`${address}:${port}`);
});
process.stdin.on('end', () => process.exit(0)).resume();
