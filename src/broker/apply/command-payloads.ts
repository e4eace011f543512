/**
 * The payloads of commands, field by field; the rows of small state use the same shapes. Called by `command.ts` and
 * by the tables. Field numbers are for ever. Readers refuse unknown fields: a new field needs a new command version.
 */
import type { TopicConfig } from '../contract.ts'
import type { AssignedMember, AssignGroup, CommitOffsets, DeleteTopic, ExpireProducers, Trim } from './command.ts'
import type { Limits } from './limits.ts'
import { ProtobufReader, type ProtobufWriter } from './protobuf.ts'

export function writeTopicConfig(writer: ProtobufWriter, config: TopicConfig): void {
  writer.text(1, config.topic)
  writer.uint(2, config.readQueues)
  writer.uint(3, config.writeQueues)
  writer.uint(4, config.permission)
}

export function readTopicConfig(reader: ProtobufReader): TopicConfig {
  let topic = ''
  let readQueues = 0
  let writeQueues = 0
  let permission = 0
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) topic = reader.text()
    else if (field === 2) readQueues = reader.uint()
    else if (field === 3) writeQueues = reader.uint()
    else if (field === 4) permission = reader.uint()
    else reader.unknown()
  }
  return { topic, readQueues, writeQueues, permission }
}

export function writeDeleteTopic(writer: ProtobufWriter, { topic, topicId }: DeleteTopic): void {
  writer.text(1, topic)
  if (topicId !== undefined) writer.presentUint(2, topicId)
}

export function readDeleteTopic(reader: ProtobufReader): DeleteTopic {
  let topic = ''
  let topicId: number | undefined
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) topic = reader.text()
    else if (field === 2) topicId = reader.uint()
    else reader.unknown()
  }
  return { kind: 'delete_topic', topic, ...(topicId === undefined ? {} : { topicId }) }
}

export function writeCommitOffsets(writer: ProtobufWriter, command: CommitOffsets): void {
  writer.text(1, command.group)
  writer.text(2, command.member)
  writer.uint(3, command.generation)
  writer.bool(4, command.seek)
  for (const { topicId, queue, offset } of command.offsets) {
    writer.message(5, (entry) => {
      entry.uint(1, topicId)
      entry.uint(2, queue)
      entry.uint(3, offset)
    })
  }
}

export function readCommitOffsets(reader: ProtobufReader): CommitOffsets {
  let group = ''
  let member = ''
  let generation = 0
  let seek = false
  const offsets: CommitOffsets['offsets'][number][] = []
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) group = reader.text()
    else if (field === 2) member = reader.text()
    else if (field === 3) generation = reader.uint()
    else if (field === 4) seek = reader.bool()
    else if (field === 5) offsets.push(readQueueOffset(new ProtobufReader(reader.bytes())))
    else reader.unknown()
  }
  return { kind: 'commit_offsets', group, member, generation, seek, offsets }
}

function readQueueOffset(reader: ProtobufReader): CommitOffsets['offsets'][number] {
  let topicId = 0
  let queue = 0
  let offset = 0
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) topicId = reader.uint()
    else if (field === 2) queue = reader.uint()
    else if (field === 3) offset = reader.uint()
    else reader.unknown()
  }
  return { topicId, queue, offset }
}

export function writeAssignGroup(writer: ProtobufWriter, command: AssignGroup): void {
  writer.text(1, command.group)
  writer.uint(2, command.expectedGeneration)
  writeMembers(writer, command.members)
}

export function readAssignGroup(reader: ProtobufReader): AssignGroup {
  let group = ''
  let expectedGeneration = 0
  const members: AssignedMember[] = []
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) group = reader.text()
    else if (field === 2) expectedGeneration = reader.uint()
    else if (field === 3) members.push(readMember(new ProtobufReader(reader.bytes())))
    else reader.unknown()
  }
  return { kind: 'assign_group', group, expectedGeneration, members }
}

/** Field 3 of an assignment, sorted. */
export function writeMembers(writer: ProtobufWriter, members: readonly AssignedMember[]): void {
  for (const member of [...members].sort((a, b) => compareText(a.member, b.member))) {
    writer.message(3, (entry) => writeMember(entry, member))
  }
}

function writeMember(writer: ProtobufWriter, member: AssignedMember): void {
  writer.text(1, member.member)
  for (const topic of [...member.topics].sort(compareText)) writer.bytes(2, Buffer.from(topic, 'utf8'))
  for (const { topicId, queue } of [...member.queues].sort((a, b) => a.topicId - b.topicId || a.queue - b.queue)) {
    writer.message(3, (entry) => {
      entry.uint(1, topicId)
      entry.uint(2, queue)
    })
  }
}

export function readMember(reader: ProtobufReader): AssignedMember {
  let member = ''
  const topics: string[] = []
  const queues: AssignedMember['queues'][number][] = []
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) member = reader.text()
    else if (field === 2) topics.push(reader.text())
    else if (field === 3) queues.push(readQueue(new ProtobufReader(reader.bytes())))
    else reader.unknown()
  }
  return { member, topics, queues }
}

function readQueue(reader: ProtobufReader): AssignedMember['queues'][number] {
  let topicId = 0
  let queue = 0
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) topicId = reader.uint()
    else if (field === 2) queue = reader.uint()
    else reader.unknown()
  }
  return { topicId, queue }
}

export function writeExpireProducers(writer: ProtobufWriter, command: ExpireProducers): void {
  writer.uint(1, command.idleBefore)
  writer.uint(2, command.removeMax)
}

export function readExpireProducers(reader: ProtobufReader): ExpireProducers {
  let idleBefore = 0
  let removeMax = 0
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) idleBefore = reader.uint()
    else if (field === 2) removeMax = reader.uint()
    else reader.unknown()
  }
  return { kind: 'expire_producers', idleBefore, removeMax }
}

export function writeTrim(writer: ProtobufWriter, command: Trim): void {
  writer.uint(1, command.firstIndex)
  for (const { topicId, queue, minOffset } of command.queues) {
    writer.message(2, (entry) => {
      entry.uint(1, topicId)
      entry.uint(2, queue)
      entry.uint(3, minOffset)
    })
  }
}

export function readTrim(reader: ProtobufReader): Trim {
  let firstIndex = 0
  const queues: Trim['queues'][number][] = []
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) firstIndex = reader.uint()
    else if (field === 2) {
      const { topicId, queue, offset: minOffset } = readQueueOffset(new ProtobufReader(reader.bytes()))
      queues.push({ topicId, queue, minOffset })
    } else reader.unknown()
  }
  return { kind: 'trim', firstIndex, queues }
}

const limitFields = [
  [2, 'bodyBytesMax'],
  [3, 'queuesPerTopicMax'],
  [4, 'topicsMax'],
  [5, 'groupsMax'],
  [6, 'membersPerGroupMax'],
  [7, 'producersMax'],
  [8, 'producerIdleMs'],
] as const

/** A limit that is absent stays as it is; therefore zero and false are written. */
export function writeLimits(writer: ProtobufWriter, limits: Partial<Limits>): void {
  if (limits.autoCreateTopics !== undefined) writer.presentUint(1, limits.autoCreateTopics ? 1 : 0)
  for (const [field, name] of limitFields) {
    const value = limits[name]
    if (value !== undefined) writer.presentUint(field, value)
  }
}

export function readLimits(reader: ProtobufReader): Partial<Limits> {
  const limits: { -readonly [Name in keyof Limits]?: Limits[Name] } = {}
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    const name = limitFields.find(([number]) => number === field)?.[1]
    if (field === 1) limits.autoCreateTopics = reader.bool()
    else if (name) limits[name] = reader.uint()
    else reader.unknown()
  }
  return limits
}

/** By UTF-16 units: never by locale, which differs between machines. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
