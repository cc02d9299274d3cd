#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_GC_FENCE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_GC_FENCE_H_

#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "launcher/engine/base/gc_state.h"

namespace pylaunch::engine {

// Tells the objects that were there before the program from the program's own, by their place in
// the collector's lists: two empty lists of ours stand first and last in the oldest generation, and
// what is between them was there before. All of CPython 3.10 to 3.15 (Modules/gcmodule.c,
// Python/gc.c; but 3.14.0 to 3.14.4) enters objects at the end of a generation only: new ones,
// survivors of younger generations, those that move_unreachable() puts back, and what gc.freeze()
// and gc.unfreeze() move. So between the two no object of the program can come to stand; one of
// ours may come to stand after them, which costs time and nothing else. The program's
// gc.get_objects() shows two more empty lists.
//
// Tried before and lost: gc.freeze() for as long as the program runs shows (gc.get_objects(),
// gc.get_referrers(), get_freeze_count()) and keeps cyclic garbage of preloaded modules; a record
// of addresses cannot tell an object from the next one at its address.
class GcFence {
 public:
  using Visitor = std::function<void(PyObject*)>;

  // Draws the line here and now. False: this collector is not the one we know, or gc.freeze() has
  // been called.
  bool Draw();
  // From now on the collector does not see what was there before the line: not to traverse it, not
  // to free it. Objects may still die by their reference counts. Call after Draw().
  void HideBefore();
  // The line again, here and now, with all that has come since behind it. Call while hidden.
  void HideNew();
  // A full collection of what is in sight, for what else it does: the free lists of CPython's types
  // are let go, whose members lie on pages that each process restored from an image would have to
  // copy when it lets them go. What gc tells and plans by stays as it was. Only where gc.callbacks
  // is empty; that list, by which the collector is known.
  void EmptyFreeLists(PyObject* callbacks);
  // Takes that back: what was hidden becomes the oldest again. Not while something is frozen: in
  // sight, it would have been frozen, too.
  void ShowBefore();
  // True if gc.freeze() has been called since Draw() and what it froze still is: VisitAfter()
  // passes that over.
  bool HasFrozen() const;
  bool hidden() const { return hidden_.next != 0; }
  // Puts a tracked object to the program's, where the hidden ones were: behind those of an earlier
  // call, before what came after the line. Call next after HideBefore() or HideNew().
  void MoveAfter(PyObject* object);

  // Visitors must neither make nor free objects that the collector tracks.
  void VisitBefore(const Visitor& visit) const;
  void VisitAfter(const Visitor& visit) const;  // Without what the program has frozen.

 private:
  using Node = gc::Node;

  static void Link(Node* left, Node* right);
  static void Unlink(Node* node) { Link(gc::Previous(node), gc::Next(node)); }
  static void InsertBefore(Node* node, Node* place);
  static void Visit(const Node* begin, const Node* end, const Visitor& visit);
  static void MoveAll(gc::Generation* from, Node* place);

  gc::State state_;
  PyObject* first_ = nullptr;
  PyObject* last_ = nullptr;
  Node* seam_ = nullptr;
  // The permanent generation's when the line was drawn.
  const Node* first_frozen_ = nullptr;
  const Node* last_frozen_ = nullptr;
  Node hidden_ = {};  // The head of the list that the hidden ones are in; zero without one.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_GC_FENCE_H_
