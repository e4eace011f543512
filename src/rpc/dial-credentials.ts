/**
 * Insecure credentials whose connections end with the client that began them. Used by `grpc-channel.ts`.
 *
 * The library forgets a connection attempt when its client is closed, and lets it run on: a socket to a process that
 * stands still stays open as long as that process, and what connects after all stays connected with nobody behind it.
 * The secure connector is where it hands over every socket, and is told that the client is gone.
 */
import type { Socket } from 'node:net'
import { ChannelCredentials } from '@grpc/grpc-js'

type Create = ChannelCredentials['_createSecureConnector']
type Connector = ReturnType<Create>

export function dialCredentials(): ChannelCredentials {
  const credentials = ChannelCredentials.createInsecure()
  // Underscored by the library: one that has it no more serves all the same, and forgets as it did.
  if (typeof credentials._createSecureConnector !== 'function') return credentials
  const create: Create = credentials._createSecureConnector.bind(credentials)
  credentials._createSecureConnector = (...given) => endingConnector(create(...given))
  return credentials
}

function endingConnector(inner: Connector): Connector {
  const sockets = new Set<Socket>()
  let isGone = false
  return {
    connect: async (socket) => {
      if (isGone) throw new Error('nobody waits for this connection any more')
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
      return await inner.connect(socket)
    },
    waitForReady: () => inner.waitForReady(),
    getCallCredentials: () => inner.getCallCredentials(),
    destroy: () => {
      isGone = true
      // One that the other side has spoken on may carry calls, and ends with the last of them.
      for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()
      inner.destroy()
    },
  }
}
