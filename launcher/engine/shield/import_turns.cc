#include "launcher/engine/shield/import_turns.h"

#include <pthread.h>

#include <new>
#include <utility>

namespace pylaunch::engine {

thread_local Importer t_importer;

ImportTurns& AllTurns() {
  // importlib calls the shield with nothing of ours. Never destroyed: daemon threads outlive
  // everything.
  static ImportTurns* all = new ImportTurns();
  return *all;
}

Importer& ThisImporter() {
  if (t_importer.id.tid != 0) return t_importer;
  ImportTurns& all = AllTurns();
  t_importer.id = ThreadId::OfThisThread();
  auto found = all.adopted.find(static_cast<unsigned long>(pthread_self()));
  t_importer.home = found == all.adopted.end() ? all.root : found->second;
  if (found != all.adopted.end()) all.adopted.erase(found);
  return t_importer;
}

GroupRef Resolve(GroupRef group) {
  while (group->closed) group = group->parent;
  return group;
}

const GroupRef& Children(ImportTurn* turn) {
  if (!turn->children) {
    turn->children = std::make_shared<ThreadGroup>();
    turn->children->parent = turn->group->shared_from_this();
  }
  return turn->children;
}

void WakeWaiters() {
  ImportTurns& all = AllTurns();
  if (all.waiters == 0) return;
  std::lock_guard lock(all.mutex);
  ++all.generation;
  all.woken.notify_all();
}

void BeginTurn(const GroupRef& group, PyObject* name) {
  Importer& self = ThisImporter();
  self.turn = std::make_shared<ImportTurn>();
  self.turn->group = group.get();
  self.turn->owner = self.id;
  self.turn->thread = static_cast<unsigned long>(pthread_self());
  Py_XINCREF(name);
  self.turn->name = name;
  group->turn = self.turn;
}

void FinishTurn(const TurnRef& turn) {
  ThreadGroup* group = turn->group;
  if (group->turn != turn) return;
  group->turn.reset();
  turn->over = true;
  if (turn->children) {
    turn->children->closed = true;
    group->turn = std::move(turn->children->turn);
    if (group->turn) group->turn->group = group;
  }
  Py_CLEAR(turn->name);
  WakeWaiters();
}

TurnRef TurnOf(unsigned long thread, int* level) {
  *level = 0;
  if (thread == 0) return nullptr;
  TurnRef turn = AllTurns().root->turn;
  for (; turn && turn->thread != thread; ++*level)
    turn = turn->children ? turn->children->turn : nullptr;
  return turn;
}

bool IsBornOf(const TurnRef& turn) {
  if (!turn->children) return false;
  for (GroupRef group = ThisImporter().home; group; group = group->parent)
    if (group == turn->children) return true;
  return false;
}

namespace {

ImportTurn* Below(const ImportTurn* turn) {
  return turn->children ? turn->children->turn.get() : nullptr;
}

}  // namespace

bool HaveImportTurn() { return t_importer.turn != nullptr; }

bool OthersImport() {
  const TurnRef& top = AllTurns().root->turn;
  return top && (top != t_importer.turn || Below(top.get()) != nullptr);
}

void EndImportTurn() {
  TurnRef& turn = t_importer.turn;
  if (--turn->depth > 0) return;
  TurnRef ended = std::move(turn);
  turn.reset();
  FinishTurn(ended);
}

void NoteImportProgress() {
  for (ImportTurn* turn = t_importer.turn.get(); turn != nullptr;) {
    turn->progress.fetch_add(1, std::memory_order_relaxed);
    const GroupRef& parent = turn->group->parent;
    turn = parent ? parent->turn.get() : nullptr;
  }
}

void AdoptNewThread(unsigned long thread) {
  Importer& self = ThisImporter();
  ImportTurns& all = AllTurns();
  GroupRef group = self.turn ? Children(self.turn.get()) : Resolve(self.home);
  if (group != all.root) {
    all.adopted[thread] = group;
  } else if (!all.adopted.empty()) {
    all.adopted.erase(thread);
  }
}

bool ResetImportLockInChild() {
  ImportTurns& all = AllTurns();
  Importer& self = ThisImporter();
  new (&all.mutex) std::mutex;
  new (&all.woken) std::condition_variable;
  all.waiters = 0;
  all.awaited.clear();
  all.adopted.clear();
  const bool orphan = Resolve(self.home) != all.root;
  all.root = std::make_shared<ThreadGroup>();
  self.id = ThreadId::OfThisThread();
  self.home = all.root;
  if (self.turn) {
    self.turn->group = all.root.get();
    self.turn->owner = self.id;
    self.turn->children.reset();
    self.turn->dependent = 0;
    all.root->turn = self.turn;
  }
  return orphan;
}

}  // namespace pylaunch::engine
