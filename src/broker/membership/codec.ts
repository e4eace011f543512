/**
 * The body of a configuration entry, and of the membership row: deterministic protobuf, for ever in the log.
 *
 * The same membership is the same bytes: members are sorted by node. Field numbers are never reused; whoever does not
 * know a version or a field stops instead of guessing, so a new field needs a new version behind a feature level.
 */
import type { Member } from '../../rpc/methods.ts'
import { ProtobufError, ProtobufReader, ProtobufWriter } from '../apply/protobuf.ts'
import { byName, type Learner, type Membership, type PlacedMembership } from './membership.ts'

const version = 1

/** Fields: 1 version, 2 voters, 3 outgoing, 4 learners, 5 returning, 6 priorities { 1 node, 2 priority }, 7 forced. */
export function encodeMembership(membership: Membership): Buffer {
  const writer = new ProtobufWriter()
  writeMembership(writer, membership)
  return writer.finish()
}

/** Throws ProtobufError for bytes that this build could not have written. */
export function decodeMembership(body: Buffer): Membership {
  return readMembership(new ProtobufReader(body))
}

/** Fields: 1 index of the entry, 2 membership. */
export function encodePlacedMembership({ index, membership }: PlacedMembership): Buffer {
  const writer = new ProtobufWriter()
  writer.presentUint(1, index)
  writer.bytes(2, encodeMembership(membership))
  return writer.finish()
}

export function decodePlacedMembership(row: Buffer): PlacedMembership {
  const reader = new ProtobufReader(row)
  const index = reader.next() === 1 ? reader.uint() : reader.unknown()
  const membership = reader.next() === 2 ? decodeMembership(reader.bytes()) : reader.unknown()
  if (reader.next() !== 0) reader.unknown()
  return { index, membership }
}

function writeMembership(writer: ProtobufWriter, membership: Membership): void {
  writer.uint(1, version)
  writeMembers(writer, 2, membership.voters)
  writeMembers(writer, 3, membership.outgoing)
  writeMembers(writer, 4, membership.learners)
  writeMembers(writer, 5, membership.returning)
  for (const [node, priority] of [...membership.priorities].sort(([a], [b]) => (a < b ? -1 : 1))) {
    writer.message(6, (inner) => {
      inner.text(1, node)
      inner.uint(2, priority)
    })
  }
  writer.bool(7, membership.isForced ?? false)
}

/** Fields of a member: 1 node, 2 disk, 3 raft address, 4 promote (learners and returning). */
function writeMembers(writer: ProtobufWriter, field: number, members: readonly (Member | Learner)[]): void {
  for (const member of [...members].sort(byName)) {
    writer.message(field, (inner) => {
      inner.text(1, member.node)
      inner.text(2, member.disk)
      inner.text(3, member.raftAddress)
      inner.bool(4, 'promote' in member && member.promote)
    })
  }
}

function readMembership(reader: ProtobufReader): Membership {
  if (reader.next() !== 1) throw new ProtobufError('a membership without version')
  const found = reader.uint()
  if (found !== version) throw new ProtobufError(`version ${found} of the membership is not known to this build`)
  const voters: Member[] = []
  const outgoing: Member[] = []
  const learners: Learner[] = []
  const returning: Learner[] = []
  const priorities: (readonly [string, number])[] = []
  let isForced = false
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 2) voters.push(plain(readMember(reader.bytes())))
    else if (field === 3) outgoing.push(plain(readMember(reader.bytes())))
    else if (field === 4) learners.push(readMember(reader.bytes()))
    else if (field === 5) returning.push(readMember(reader.bytes()))
    else if (field === 6) priorities.push(readPriority(reader.bytes()))
    else if (field === 7) isForced = reader.bool()
    else reader.unknown()
  }
  if (voters.length === 0) throw new ProtobufError('a membership without voters')
  checkNames([...voters, ...learners], 'voters and learners')
  checkNames([...outgoing, ...learners], 'outgoing voters and learners')
  return { voters, outgoing, learners, returning, priorities, ...(isForced ? { isForced } : {}) }
}

function readMember(body: Buffer): Learner {
  const reader = new ProtobufReader(body)
  let node = ''
  let disk = ''
  let raftAddress = ''
  let promote = false
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) node = reader.text()
    else if (field === 2) disk = reader.text()
    else if (field === 3) raftAddress = reader.text()
    else if (field === 4) promote = reader.bool()
    else reader.unknown()
  }
  if (node === '' || disk === '') throw new ProtobufError('a member without node or disk')
  return { node, disk, raftAddress, promote }
}

function plain({ node, disk, raftAddress }: Learner): Member {
  return { node, disk, raftAddress }
}

function readPriority(body: Buffer): readonly [string, number] {
  const reader = new ProtobufReader(body)
  let node = ''
  let priority = 0
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) node = reader.text()
    else if (field === 2) priority = reader.uint()
    else reader.unknown()
  }
  return [node, priority]
}

function checkNames(members: readonly Member[], what: string): void {
  if (new Set(members.map((member) => member.node)).size === members.length) return
  throw new ProtobufError(`${what} name a node twice`)
}
