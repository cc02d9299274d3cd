#include "image/handoff_variable.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>

namespace pylaunch {
namespace {

class HandoffVariableTest : public testing::Test {
 protected:
  std::optional<HandoffVariable> Parse(const std::string& value) {
    value_ = value;
    HandoffVariable parsed;
    if (!ParseHandoffVariable(value_.data(), &parsed)) return std::nullopt;
    return parsed;
  }

  std::string value_;
  std::string put_;
  const std::function<void(char)> append_ = [this](char c) { put_ += c; };
};

TEST_F(HandoffVariableTest, TheEngines) {
  PutEngineHandoff(3, -1, 4711, append_);
  EXPECT_EQ(put_, "3:-1:4711");
  const auto parsed = Parse(put_);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->handoff, 3);
  EXPECT_EQ(parsed->second, -1);
  EXPECT_EQ(parsed->pid, 4711);
  EXPECT_EQ(parsed->attempt, nullptr);
  EXPECT_EQ(parsed->python, nullptr);
  EXPECT_EQ(parsed->usual, nullptr);
}

TEST_F(HandoffVariableTest, TheRestorersCountsItsAttemptsInPlace) {
  PutImageHandoff(10, 0, 1, false, "", "/a:b/python", append_);
  EXPECT_EQ(put_, "10:0:1:0:0::/a:b/python");
  const auto parsed = Parse(put_);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->handoff, 10);
  EXPECT_EQ(parsed->second, 0);
  EXPECT_EQ(parsed->pid, 1);
  EXPECT_FALSE(parsed->moved);
  EXPECT_STREQ(parsed->python, "/a:b/python");
  ++*parsed->attempt;
  EXPECT_EQ(value_, "10:0:1:1:0::/a:b/python");
}

TEST_F(HandoffVariableTest, WithoutAPythonToGoOnWith) {
  PutImageHandoff(3, 4, 5, false, "", "", append_);
  const auto parsed = Parse(put_);
  ASSERT_TRUE(parsed);
  EXPECT_STREQ(parsed->python, "");
}

TEST_F(HandoffVariableTest, InodesOfTheImagesFiles) {
  PutImageHandoff(3, 4, 5, true, "1a,ffffffffffffffff,0", "/p", append_);
  const auto parsed = Parse(put_);
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(parsed->moved);
  EXPECT_STREQ(parsed->python, "/p");
  const char* at = parsed->inodes;
  EXPECT_EQ(TakeInode(&at), 0x1au);
  EXPECT_EQ(TakeInode(&at), 0xffffffffffffffffu);
  EXPECT_EQ(TakeInode(&at), 0u);
  EXPECT_EQ(TakeInode(&at), 0u);  // No more of them.
  EXPECT_EQ(*at, ':');
}

TEST_F(HandoffVariableTest, TheUsualStarts) {
  PutUsualHandoff(2147483647, true, "/p", "/a:b", "", append_);
  EXPECT_EQ(put_, "usual:2147483647:1:/p\n/a:b\n");
  const auto parsed = Parse(put_);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->pid, 2147483647);
  EXPECT_STREQ(parsed->usual, "/p\n/a:b\n");
  EXPECT_TRUE(parsed->waits);
  EXPECT_EQ(parsed->handoff, -1);
  EXPECT_EQ(parsed->attempt, nullptr);
  put_.clear();
  PutUsualHandoff(3, false, "/p", "/l", "/c", append_);
  EXPECT_EQ(put_, "usual:3:0:/p\n/l\n/c");
  EXPECT_FALSE(Parse(put_)->waits);
}

TEST_F(HandoffVariableTest, WhatIsNoHandoff) {
  for (const char* value : {"",
                            "3",
                            "3:4",
                            "3:4:",
                            ":4:5",
                            "3::5",
                            "a:4:5",
                            "3:4:x",
                            "3:4:5x",
                            "3:4:5:",
                            "3:4:5:0",
                            "3:4:5:x:0::/p",
                            "3:4:5:10:0::/p",
                            "3:4:5:0:",
                            "3:4:5:0::/p",
                            "3:4:5:0:2::/p",
                            "3:4:5:0:1:",
                            "3:4:5:0:1:/p",
                            "usual",
                            "usual:",
                            "usual:5",
                            "usual:x:0:/p\n/l\n/c",
                            "usual:5:/p\n/l\n/c",
                            "usual:5:0"}) {
    EXPECT_FALSE(Parse(value)) << value;
  }
}

TEST_F(HandoffVariableTest, IsFoundByItsWholeName) {
  for (std::string entry : {"PYLAUNCH_HANDOFF", "PYLAUNCH_HANDOFFS=1", "PYLAUNCH=1", ""}) {
    EXPECT_EQ(HandoffValue(entry.data()), nullptr) << entry;
  }
  std::string entry = "PYLAUNCH_HANDOFF=usual";
  EXPECT_STREQ(HandoffValue(entry.data()), "usual");
}

}  // namespace
}  // namespace pylaunch
